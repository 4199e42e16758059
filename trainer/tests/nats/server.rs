//! Workers that have a server sample for them.

use super::place::{Place, Running};
use super::*;
use common::{rao, refused};
use std::path::PathBuf;
use std::process::Command;

/// Options of a worker that asks a server at this port.
fn asking(place: &Place, port: u16, reload: &str) -> Vec<String> {
    let weights = place.path().join("weights").into_os_string().into_string().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1");
    [
        "--policy-backend",
        "openai",
        "--server",
        &url,
        "--weights",
        &weights,
        "--reload",
        reload,
        // It has its own.
        "--threads",
        "0",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Whether the process runs whose number is in this file.
fn is_alive(pid: &Path) -> bool {
    let pid = std::fs::read_to_string(pid).unwrap();
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", pid.trim()])
        .output()
        .unwrap();
    // A zombie does not.
    !matches!(state.stdout.first(), None | Some(b'Z'))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn worker(place: &Place, options: &[String], more: &[&str]) -> Running {
    let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
    place.worker("t", &options)
}

#[test]
fn what_a_server_takes_is_asked_for() {
    let here = tempfile::tempdir().unwrap();
    let nats = ["worker", "--nats", "nats://127.0.0.1:1"];
    let output = rao(here.path(), &[&nats[..], &["--policy-backend", "openai"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    for option in ["--server <URL>", "--weights <DIRECTORY>", "--reload <COMMAND>"] {
        assert!(error.contains(option), "{error}");
    }
    let error = refused(here.path(), &[&nats[..], &["--reload", "true"]].concat());
    assert!(error.contains("--reload is for --policy-backend openai"), "{error}");
    let server = [
        "--policy-backend",
        "openai",
        "--server",
        "u",
        "--weights",
        "w",
        "--reload",
        "r",
    ];
    let error = refused(
        here.path(),
        &[&nats[..], &server, &["--api-key", "NO_SUCH_KEY"]].concat(),
    );
    assert!(error.contains("there is none of that name"), "{error}");
    let error = refused(here.path(), &[&nats[..], &server, &["--threads", "2"]].concat());
    assert!(error.contains("--threads is for backends that sample here"), "{error}");
}

#[test]
fn a_server_that_does_not_reload_or_answer_ends_its_worker_and_nothing_is_lost() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &["rao.steps=2"]);
    let mut trainer = place.train("t", &["rao.steps=2"]);
    // What lies there when the command is run is what is to be loaded.
    let proof = place.path().join("proof");
    let command = format!(
        "cp \"$RAO_WEIGHTS\" '{}'; echo $RAO_WEIGHTS_VERSION > '{}.version'; exit 3",
        proof.display(),
        proof.display()
    );
    let mut failing = worker(&place, &asking(&place, 1, &command), &[]);
    assert_eq!(failing.end().code(), Some(1));
    assert!(
        failing.said().contains("did not reload the server: exit status: 3"),
        "{}",
        failing.said()
    );
    assert!(std::fs::read(&proof).unwrap().starts_with(b"GGUF"));
    assert_eq!(
        std::fs::read_to_string(proof.with_extension("version")).unwrap().trim(),
        "0"
    );
    let mut silent = worker(&place, &asking(&place, 1, "true"), &["--patience", "1"]);
    assert_eq!(silent.end().code(), Some(1));
    let said = silent.said();
    assert!(
        said.contains("/v1 has not answered for as long as --patience"),
        "{said}"
    );
    let child = place.path().join("child");
    let hanging = format!(
        "sleep 1000 & echo $! > '{0}.new'; mv '{0}.new' '{0}'; wait; true",
        child.display()
    );
    let mut slow = worker(&place, &asking(&place, 1, &hanging), &["--patience", "1"]);
    assert_eq!(slow.end().code(), Some(1));
    assert!(
        slow.said().contains("it has not ended for as long as --patience"),
        "{}",
        slow.said()
    );
    wait_until("the end of what the command started", || !is_alive(&child));
    std::fs::remove_file(&child).unwrap();
    // What a worker left that was killed while it read weights.
    let left = place.path().join("weights/.rao-new-left");
    std::fs::create_dir(&left).unwrap();
    let mut holding = worker(&place, &asking(&place, 1, &hanging), &[]);
    wait_until("the command", || child.exists());
    assert!(!left.exists());
    // One directory, one worker.
    let mut second = worker(&place, &asking(&place, 1, "true"), &[]);
    assert_eq!(second.end().code(), Some(1));
    let said = second.said();
    assert!(said.contains("another worker puts its weights into"), "{said}");
    // It is heard while the command runs, and ends that, too.
    holding.terminate();
    assert!(holding.end().success(), "{}", holding.said());
    wait_until("the end of what the command started", || !is_alive(&child));
    let mut sound = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut sound), 2 * 16);
    assert_eq!(Trained::of(&place.path().join("t")), expected);
}

/// A llama-server that `docs/deploy/llama-server.sh` starts; it ends with the test.
struct LlamaServer {
    binary: PathBuf,
    pid: PathBuf,
    port: u16,
}

impl LlamaServer {
    /// Nothing where no binary is named.
    fn of(place: &Place) -> Option<Self> {
        let Some(binary) = std::env::var_os("RAO_LLAMA_SERVER").map(PathBuf::from) else {
            println!(
                "skipped: a real llama-server: set RAO_LLAMA_SERVER to what tests/conformance/llama_server.sh prints"
            );
            return None;
        };
        let (pid, port) = (place.path().join("weights/llama-server.pid"), free_port());
        Some(Self { binary, pid, port })
    }

    /// The command that starts it with new weights, where so much context is shared by four slots.
    fn command(&self, context: usize) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deploy/llama-server.sh");
        // Keys and values in full, so that its log-probabilities are comparable with ours.
        format!(
            "LLAMA_SERVER='{}' LLAMA_SERVER_PORT={} LLAMA_SERVER_ARGS='--threads 1 --no-ui --ctx-size {context} --parallel 4 --threads-http 32 \
             --cache-type-k f32 --cache-type-v f32 --flash-attn off' '{script}'",
            self.binary.display(),
            self.port
        )
    }
}

impl LlamaServer {
    fn kill(&self) {
        if let Ok(pid) = std::fs::read_to_string(&self.pid) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
        }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_server_samples_what_the_trainer_publishes() {
    let Some(place) = Place::open() else { return };
    let Some(server) = LlamaServer::of(&place) else { return };
    // More than the least that a slot of llama-server has.
    let steps = ["rao.steps=3", "rollout.quant=f32", "limits.context=300"];
    let alone = Trained::alone(place.path(), &steps);
    let gguf = "nats.weights=[\"gguf\"]";
    let mut trainer = place.train("t", &[&steps[..], &[gguf]].concat());
    let mut narrow = worker(&place, &asking(&place, server.port, &server.command(1024)), &[]);
    assert_eq!(narrow.end().code(), Some(1));
    assert!(narrow.said().contains("has room for "), "{}", narrow.said());
    let options = asking(&place, server.port, &server.command(4096));
    let mut sound = worker(&place, &options, &["--trees", "16"]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut sound), 3 * 16);
    let trained = Trained::of(&place.path().join("t"));
    let recursive = |trained: &Trained| -> Vec<Value> {
        let steps = trained.metrics.iter().filter(|step| step["phase"] == "recursive");
        steps.cloned().collect()
    };
    let (steps, alone) = (recursive(&trained), recursive(&alone));
    assert_eq!(steps.len(), 3);
    // The same trees from the same weights: which node ends first depends on nothing but what the nodes say.
    for key in ["tokens", "nodes_per_tree", "node_success", "critical_path"] {
        assert_eq!(steps[0][key], alone[0][key], "{key}");
    }
    for step in steps {
        // The weights are the same, step by step; the arithmetic is another.
        let mismatch = step["mismatch"].as_f64().unwrap();
        assert!(mismatch > 0.0 && mismatch < 1e-4, "{mismatch}");
        assert_eq!(step["failed"], 0.0, "{step}");
    }
}

#[test]
fn the_trees_of_a_server_that_dies_are_ended_by_others() {
    let Some(place) = Place::open() else { return };
    let Some(server) = LlamaServer::of(&place) else { return };
    // Half of a tree's time is how long the server may be away.
    let settings = [
        "rao.steps=5",
        "rollout.quant=f32",
        "limits.seconds=20",
        "nats.ack_wait=3",
    ];
    let mut trainer = place.train("t", &settings);
    let dead = place.path().join("dead");
    let command = format!("test ! -e '{}' && {}", dead.display(), server.command(4096));
    let mut bereft = worker(&place, &asking(&place, server.port, &command), &[]);
    wait_until("a step", || steps(&place.path().join("t")) >= 1);
    std::fs::write(dead, []).unwrap();
    server.kill();
    assert_eq!(bereft.end().code(), Some(1));
    let said = bereft.said();
    // Within a step, or between two.
    let within = said.contains("requests to http://127.0.0.1:");
    assert!(within || said.contains("did not reload the server: "), "{said}");
    let mut other = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert!(trees_of(&mut other) > 0);
    let trained = Trained::of(&place.path().join("t"));
    let failed = trained
        .metrics
        .iter()
        .filter(|step| step["phase"] == "recursive")
        .map(|step| &step["failed"]);
    assert_eq!(failed.collect::<Vec<_>>(), [&Value::from(0.0); 5]);
}
