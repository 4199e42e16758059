//! Training by workers at a nats-server on this machine, against training in one process: trees per second, bytes on the wire, and how long
//! the trainer waits. Every row is a training of its own of the same trees, which takes some seconds; rows are run in turn, several times.
//!
//!     cargo bench -p rao-trainer --features nats --bench workers
//!
//! `ROUNDS` (3) says how often; `RAO_NATS_SERVER` names the server if it is not in the PATH. `RECORD=FILE` keeps what was measured, for
//! `examples/fleet.rs`.

#[path = "../../../tests/support/recorded.rs"]
mod recorded;

use rao_trainer::rollout::Rollout;
use recorded::Recorded;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The quickstart's steps of 64 trees, after a short warm start.
const SETTINGS: [&str; 8] = [
    "warmstart.steps=120",
    "warmstart.trees=2000",
    "rao.steps=12",
    "flat.enabled=false",
    "eval.difficulties=[\"easy\"]",
    "eval.easy=1",
    "record.groups=12",
    "checkpoint.every=0",
];

/// A process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().expect("the process starts"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A nats-server with a monitoring port.
struct Server {
    _process: Running,
    port: u16,
    monitor: u16,
}

impl Server {
    fn start(binary: &Path, directory: &Path) -> Self {
        let (port, monitor) = (free_port(), free_port());
        let mut command = Command::new(binary);
        command.args([
            "-js",
            "-a",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-m",
            &monitor.to_string(),
            "-sd",
        ]);
        let process = start(command.arg(directory));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            _process: process,
            port,
            monitor,
        }
    }

    /// Bytes that it has got and sent so far.
    fn bytes(&self) -> (u64, u64) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).expect("the monitor answers");
        stream
            .write_all(b"GET /varz HTTP/1.0\r\n\r\n")
            .expect("the monitor listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the monitor answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let json: Value = serde_json::from_str(body).expect("the monitor says JSON");
        let number = |name: &str| json[name].as_u64().expect("a number");
        (number("in_bytes"), number("out_bytes"))
    }
}

/// What one training came to.
#[derive(Clone, Copy, Default)]
struct Row {
    trees_per_second: f64,
    /// While trees were rolled out.
    rolled_per_second: f64,
    /// Share of the time that the trainer waited for trees.
    idle: f64,
    /// Bytes from all clients to the server and back, for each tree.
    sent: f64,
    received: f64,
    /// Of a step.
    train_seconds: f64,
}

fn measure(directory: &Path, name: &str, workers: Option<usize>, threads: usize, server: Option<&Server>) -> Row {
    let rao = env!("CARGO_BIN_EXE_rao");
    let mut train = Command::new(rao);
    train.current_dir(directory).args(["train", "--run", name]);
    let threads = format!("threads={threads}");
    for setting in SETTINGS.iter().chain(&[threads.as_str()]) {
        train.args(["--set", setting]);
    }
    let mut running = Vec::new();
    if let (Some(workers), Some(server)) = (workers, server) {
        let url = format!("nats://127.0.0.1:{}", server.port);
        for setting in [
            "rollout.engine=nats",
            &format!("nats.url={url}"),
            &format!("nats.name={name}"),
        ] {
            train.args(["--set", setting]);
        }
        for _ in 0..workers {
            let mut worker = Command::new(rao);
            worker.args([
                "worker",
                "--nats",
                &url,
                "--name",
                name,
                "--threads",
                "1",
                "--trees",
                "16",
            ]);
            running.push(start(&mut worker));
        }
    }
    let before = server.map_or((0, 0), Server::bytes);
    let status = train.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("rao starts").success(), "the training {name} failed");
    let after = server.map_or((0, 0), Server::bytes);
    let metrics = std::fs::read_to_string(directory.join(name).join("metrics.jsonl")).expect("metrics");
    let steps = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    // The first waits for the workers to begin.
    let steps: Vec<Value> = steps.filter(|step: &Value| step["phase"] == "recursive").collect();
    let sum = |key: &str| steps[1..].iter().filter_map(|step| step[key].as_f64()).sum::<f64>();
    let (rollout, train) = (sum("rollout_seconds"), sum("train_seconds"));
    let trees = 64.0 * (steps.len() - 1) as f64;
    let all = 64.0 * steps.len() as f64;
    Row {
        trees_per_second: trees / (rollout + train),
        rolled_per_second: trees / rollout,
        idle: rollout / (rollout + train),
        sent: (after.0 - before.0) as f64 / all,
        received: (after.1 - before.1) as f64 / all,
        train_seconds: train / (steps.len() - 1) as f64,
    }
}

/// From the trees that a training kept.
fn record(directory: &Path, name: &str, row: Row) -> Recorded {
    let traces = std::fs::read_dir(directory.join(name).join("traces")).expect("traces");
    let (mut tree_seconds, mut tree_bytes, mut logs) = (Vec::new(), Vec::new(), Vec::new());
    for trace in traces {
        let path = trace.expect("a trace").path();
        let step = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("-step-"));
        if step && path.extension().is_some_and(|extension| extension == "rao") {
            let bytes = std::fs::read(&path).expect("a log");
            logs.extend(trees(&bytes).into_iter().map(<[u8]>::to_vec));
        }
    }
    let begun = Instant::now();
    for log in &logs {
        let rollout = Rollout::from_log(0, log, 113).expect("a whole log");
        tree_seconds.push(rollout.seconds);
        tree_bytes.push(log.len());
    }
    Recorded {
        read_seconds: begun.elapsed().as_secs_f64() / logs.len() as f64,
        tree_seconds,
        tree_bytes,
        train_seconds: row.train_seconds,
        worker_trees_per_second: row.rolled_per_second,
        weights_bytes: std::fs::metadata(directory.join(name).join("recursive/model.safetensors"))
            .map_or(0, |file| file.len()),
    }
}

/// The logs of trees that were written one after the other: each opens a run.
fn trees(bytes: &[u8]) -> Vec<&[u8]> {
    let records = rao_trainer::trace::Records::new(bytes).map(|record| record.expect("a whole log"));
    let opened = |(offset, record): (usize, rao_proto::Record<'_>)| {
        matches!(record.event, rao_proto::Event::RunOpened { .. }).then_some(offset)
    };
    let starts: Vec<usize> = records.filter_map(opened).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| &bytes[start..end])
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let binary = std::env::var_os("RAO_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from);
    if !Command::new(&binary)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("workers: skipped, no nats-server; name one in RAO_NATS_SERVER");
        return;
    }
    let rounds: usize = std::env::var("ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let server = Server::start(&binary, &here.join("jetstream"));
    let cases = [
        ("in process, 1 thread", None, 1),
        ("in process, 2 threads", None, 2),
        ("1 worker", Some(1), 1),
        ("2 workers", Some(2), 1),
        ("4 workers", Some(4), 1),
    ];
    let mut rows = vec![Vec::new(); cases.len()];
    let mut kept = None;
    for round in 0..rounds {
        for (case, &(_, workers, threads)) in cases.iter().enumerate() {
            let name = format!("r{round}c{case}");
            let row = measure(here, &name, workers, threads, workers.map(|_| &server));
            if workers == Some(1) {
                kept = Some((name.clone(), row));
            }
            rows[case].push(row);
        }
    }
    println!("medians of {rounds} rounds, steps of 64 trees\n");
    println!(
        "| | trees per second | of them while rolling out | the trainer waits | KB to the server and from it, per tree |"
    );
    println!("|---|---|---|---|---|");
    for ((label, workers, _), rows) in cases.iter().zip(&rows) {
        let of = |field: fn(&Row) -> f64| median(rows.iter().map(field).collect());
        let wire = match workers {
            None => String::new(),
            Some(_) => format!(
                "{:.1} and {:.1}",
                of(|row| row.sent) / 1e3,
                of(|row| row.received) / 1e3
            ),
        };
        let rate = of(|row| row.trees_per_second);
        let (rolled, idle) = (of(|row| row.rolled_per_second), 100.0 * of(|row| row.idle));
        println!("| {label} | {rate:.0} | {rolled:.0} | {idle:.0} % | {wire} |");
    }
    if let (Some((name, row)), Some(path)) = (kept, std::env::var_os("RECORD")) {
        let recorded = record(here, &name, row);
        let json = serde_json::to_string(&recorded).expect("JSON");
        std::fs::write(&path, json).expect("the record can be written");
    }
}
