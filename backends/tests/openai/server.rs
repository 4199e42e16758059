//! A server that does what a test tells it to, well or badly.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
    /// How many came before it.
    pub index: usize,
    pub at: Instant,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What a client gets.
pub enum Reaction {
    /// Status, further headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A body that announces one byte more than there is, after which the connection closes.
    CutOff(Vec<u8>),
    /// Bytes that are no HTTP, after which the connection closes.
    Raw(&'static [u8]),
    /// Nothing, for as long as the client stays.
    Hang,
}

/// An answer of status 200.
pub fn ok(body: &Value) -> Reaction {
    Reaction::Answer(200, Vec::new(), body.to_string().into_bytes())
}

/// An answer of that status with an explanation in OpenAI's form.
pub fn refusal(status: u16, message: &str) -> Reaction {
    let body = json!({"error": {"message": message, "code": status}});
    Reaction::Answer(status, Vec::new(), body.to_string().into_bytes())
}

/// A sound answer on the wire of tokens, as vLLM gives it.
pub fn completion(tokens: &[u32], finish_reason: &str) -> Value {
    let logprobs: Vec<f32> = tokens.iter().map(|token| -0.5 - *token as f32).collect();
    json!({
        "choices": [{"text": "", "finish_reason": finish_reason, "token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": tokens.len()},
    })
}

type React = Arc<Mutex<dyn FnMut(&Asked) -> Reaction + Send>>;

pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// One for every client that left while it was kept waiting.
    left: Receiver<()>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    stopping: AtomicBool,
}

impl Server {
    /// Reacts to one request after the other.
    pub fn start(react: impl FnMut(&Asked) -> Reaction + Send + 'static) -> Self {
        let react: React = Arc::new(Mutex::new(react));
        Self::start_with(move |asked| (react.lock().unwrap())(asked))
    }

    /// Reacts to several at once.
    pub fn start_with(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, react) = (Arc::new(Shared::default()), Arc::new(react));
        let (leave, left) = channel();
        let served = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.stopping.load(Ordering::Acquire) {
                    return;
                }
                served.connections.fetch_add(1, Ordering::AcqRel);
                let (shared, react, leave) = (Arc::clone(&served), Arc::clone(&react), leave.clone());
                // It ends with the connection.
                std::thread::spawn(move || serve(stream.unwrap(), &shared, &*react, &leave));
            }
        });
        Self {
            address,
            shared,
            left,
            acceptor: Some(acceptor),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Waits until a client has left that was kept waiting.
    pub fn wait_for_leave(&self) {
        self.left.recv_timeout(PATIENCE).expect("the client stays");
    }

    /// Whether one more has left.
    pub fn someone_left(&self) -> bool {
        self.left.try_recv().is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared, react: &(impl Fn(&Asked) -> Reaction + ?Sized), leave: &Sender<()>) {
    // Head and body are written one after the other, and neither waits for the client to have taken note of the first.
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader, shared) {
        match react(&asked) {
            Reaction::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                // A client may leave before it has read everything.
                if writer.write_all(format!("{head}\r\n").as_bytes()).is_err() || writer.write_all(&body).is_err() {
                    return;
                }
            }
            Reaction::CutOff(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 1);
                let _ = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body));
                return;
            }
            Reaction::Raw(bytes) => {
                let _ = writer.write_all(bytes);
                return;
            }
            Reaction::Hang => {
                // A reset is a leave as well.
                let _ = reader.read(&mut [0]);
                let _ = leave.send(());
                return;
            }
        }
    }
}

/// The next request; nothing where the client has closed.
fn read(reader: &mut BufReader<TcpStream>, shared: &Shared) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let mut all = shared.asked.lock().unwrap();
    let asked = Asked {
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        index: all.len(),
        at: Instant::now(),
    };
    all.push(asked.clone());
    Some(asked)
}
