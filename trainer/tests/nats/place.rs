//! A nats-server, and the processes that meet there.

use super::{SETTINGS, wait_until};
use async_nats::jetstream::{self, Context};
use std::cell::RefCell;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// A server of a test's own.
pub struct Place {
    directory: TempDir,
    binary: PathBuf,
    port: u16,
    server: RefCell<Running>,
    options: Vec<String>,
    runtime: tokio::runtime::Runtime,
}

/// A process, killed when it is dropped, whose standard error goes to a file.
pub struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    fn start(command: &mut Command, said: PathBuf) -> Self {
        let file = std::fs::File::create(&said).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, said }
    }

    /// What it said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// How it ended.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of a process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// What runs services asks like this.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// It stands still until it is woken.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn wake(&self) {
        self.signal("-CONT");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// `None` where there is no nats-server.
    pub fn open() -> Option<Self> {
        Self::open_with(|_| Some(Vec::new()))
    }

    /// The same with more options, which may name files in its directory; `None` where there are none.
    pub fn open_with(options: impl FnOnce(&Path) -> Option<Vec<String>>) -> Option<Self> {
        let binary = std::env::var_os("RAO_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from);
        let found = Command::new(&binary).arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: workers over a real nats-server: install nats-server, or name it in RAO_NATS_SERVER");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = RefCell::new(serve(&binary, directory.path(), port, &options));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let place = Self {
            directory,
            binary,
            port,
            server,
            options,
            runtime,
        };
        place.await_server();
        Some(place)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// For a user, with or without a password.
    pub fn url_of(&self, user: &str) -> String {
        format!("nats://{user}@127.0.0.1:{}", self.port)
    }

    fn await_server(&self) {
        wait_until("the server", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// kill -9, and another one on the same files.
    pub fn restart_server(&self) {
        let mut server = self.server.borrow_mut();
        server.kill();
        *server = serve(&self.binary, self.path(), self.port, &self.options);
        self.await_server();
    }

    /// Believes the test's own authority, where there is one.
    fn trust(&self, command: &mut Command) {
        let authority = self.path().join("ca.pem");
        if authority.exists() {
            command.env("SSL_CERT_FILE", authority);
        }
    }

    /// A worker for the training of this name.
    pub fn worker(&self, name: &str, more: &[&str]) -> Running {
        self.worker_at(&self.url(), name, more)
    }

    /// The same of a user.
    pub fn worker_as(&self, user: &str, name: &str) -> Running {
        self.worker_at(&self.url_of(user), name, &[])
    }

    /// The same over TLS, where `ca.pem` says who is to be believed.
    pub fn worker_over_tls(&self, name: &str) -> Running {
        let url = self.url().replace("nats://", "tls://");
        self.worker_at(&url, name, &[])
    }

    /// A training of one step over TLS.
    pub fn train_over_tls(&self, name: &str) -> Running {
        let url = format!("nats.url={}", self.url().replace("nats://", "tls://"));
        self.train(name, &["rao.steps=1", &url])
    }

    fn worker_at(&self, url: &str, name: &str, more: &[&str]) -> Running {
        let number = std::fs::read_dir(self.path()).unwrap().count();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rao"));
        self.trust(&mut command);
        command.args(["worker", "--nats", url, "--name", name]).args(more);
        for (option, default) in [("--threads", "1"), ("--trees", "4"), ("--patience", "60")] {
            if !more.contains(&option) {
                command.args([option, default]);
            }
        }
        Running::start(&mut command, self.path().join(format!("worker-{number}.log")))
    }

    /// A training in a directory of this name.
    pub fn train(&self, name: &str, more: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rao"));
        self.trust(&mut command);
        command.current_dir(self.path()).args(["train", "--run", name]);
        let (url, nats) = (format!("nats.url={}", self.url()), format!("nats.name={name}"));
        let settings = ["rollout.engine=nats", &url, &nats];
        for setting in SETTINGS.iter().chain(&settings).chain(more) {
            command.args(["--set", setting]);
        }
        Running::start(&mut command, self.path().join(format!("{name}.log")))
    }

    /// Goes on with it.
    pub fn resume(&self, name: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rao"));
        command.current_dir(self.path()).args(["train", "--resume", name]);
        Running::start(&mut command, self.path().join(format!("{name}-resumed.log")))
    }

    /// Does something at the server that no trainer or worker does.
    pub fn tamper<T>(&self, what: impl AsyncFnOnce(Context) -> T) -> T {
        self.runtime.block_on(async {
            let client = async_nats::connect(self.url()).await.unwrap();
            what(jetstream::new(client)).await
        })
    }

    /// Messages in a stream of the training.
    pub fn messages(&self, name: &str, what: &str) -> u64 {
        let stream = format!("{name}-{what}");
        self.tamper(async |jetstream| match jetstream.get_stream(stream).await {
            Ok(stream) => stream.get_info().await.unwrap().state.messages,
            Err(_) => 0,
        })
    }

    /// Whether no task and no tree is left.
    pub fn is_empty(&self, name: &str) -> bool {
        ["tasks", "trees", "dead"]
            .iter()
            .all(|what| self.messages(name, what) == 0)
    }
}

fn serve(binary: &Path, directory: &Path, port: u16, options: &[String]) -> Running {
    let mut command = Command::new(binary);
    command
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string()])
        .args(options)
        .arg("-sd")
        .arg(directory.join("jetstream"));
    Running::start(&mut command, directory.join("server.log"))
}
