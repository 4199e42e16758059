//! What workers do of themselves: wait, swap weights, stop, refuse.

use super::*;
use common::refused;

#[test]
fn a_worker_that_was_there_first_waits_for_trainings_one_after_the_other() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &["rao.steps=2"]);
    let mut worker = place.worker("t", &[]);
    wait_until("the worker", || worker.said().contains("waiting for a training"));
    for run in ["one", "two"] {
        let mut trainer = place.train(run, &["rao.steps=2", "nats.name=t"]);
        assert!(trainer.end().success(), "{}", trainer.said());
        assert_eq!(Trained::of(&place.path().join(run)), expected);
    }
    assert_eq!(trees_of(&mut worker), 2 * 2 * 16);
}

#[test]
fn without_a_trainer_or_without_workers_somebody_gives_up_in_the_end() {
    let Some(place) = Place::open() else { return };
    let mut worker = place.worker("t", &["--patience", "1"]);
    assert_eq!(worker.end().code(), Some(1));
    let said = worker.said();
    assert!(
        said.contains("no trainer has announced weights at \"t\" for "),
        "{said}"
    );
    let mut idle = place.worker("u", &["--patience", "3"]);
    let mut trainer = place.train("u", &["rao.steps=1"]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(idle.end().code(), Some(1));
    assert!(idle.said().contains("no task has come for "), "{}", idle.said());
    let mut trainer = place.train("t", &["nats.patience=1"]);
    assert_eq!(trainer.end().code(), Some(1));
    let said = trainer.said();
    assert!(
        said.contains("no worker has sent a tree for ") && said.contains("16 of 16 are missing"),
        "{said}"
    );
    assert!(said.contains("rao train --resume t"), "{said}");
}

#[test]
fn a_worker_that_is_stopped_sends_what_it_has_and_gives_the_rest_back() {
    let Some(place) = Place::open() else { return };
    let expected = Trained::alone(place.path(), &[]);
    let mut trainer = place.train("t", &[]);
    let run = place.path().join("t");
    let mut trees = 0;
    for step in 1..=4 {
        let mut worker = place.worker("t", &["--trees", "8"]);
        wait_until("a step", || steps(&run) >= step);
        worker.interrupt();
        trees += trees_said(&mut worker);
    }
    let mut last = place.worker("t", &[]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&run), expected);
    // Nothing was rolled out twice, as nobody died.
    assert_eq!(trees + trees_of(&mut last), TREES);
    assert!(place.is_empty("t"));
}

#[test]
fn a_password_is_taken_from_the_url_or_the_environment_and_never_written_down() {
    let user = ["--user", "rao", "--pass", "s3cret"].map(str::to_owned);
    let Some(place) = Place::open_with(|_| Some(user.to_vec())) else {
        return;
    };
    let here = place.path();
    let refused = |url: &str| refused(here, &["worker", "--nats", url]);
    let anonymous = refused(&place.url());
    assert!(anonymous.contains("authorization violation"), "{anonymous}");
    let nobody = refused(&place.url_of("rao"));
    assert!(
        nobody.contains(
            "the URL names a user without a password: put it into the environment variable RAO_NATS_PASSWORD"
        ),
        "{nobody}"
    );
    let wrong = refused(&place.url_of("rao:guess"));
    assert!(
        wrong.contains("authorization violation") && !wrong.contains("guess"),
        "{wrong}"
    );
    let mut worker = place.worker_as("rao:s3cret", "t");
    let mut trainer = place.train(
        "t",
        &["rao.steps=1", &format!("nats.url={}", place.url_of("rao:s3cret"))],
    );
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut worker), 16);
    let written = std::fs::read_to_string(here.join("t/config.toml")).unwrap();
    assert!(
        written.contains("nats://rao@127.0.0.1") && !written.contains("s3cret"),
        "{written}"
    );
    assert!(!trainer.said().contains("s3cret") && !worker.said().contains("s3cret"));
}

#[test]
fn what_cannot_work_is_refused() {
    let Some(place) = Place::open() else { return };
    let here = place.path();
    let worker = |more: &[&str]| refused(here, &[&["worker", "--nats"], more].concat());
    let url = place.url();
    assert!(worker(&["nats://far.example"]).contains("far.example is another machine, and nothing says who asks"));
    assert!(worker(&[&url, "--creds", "none.creds"]).contains("credentials none.creds: "));
    assert!(worker(&[&url, "--name", "a.b"]).contains("`nats.name`: takes 1 to 64 letters"));
    assert!(worker(&[&url, "--patience", "0"]).contains("--patience takes"));
    let mut trainer = place.train("t", &["rao.steps=1", "nats.weights=[\"gguf\"]"]);
    wait_until("tasks", || place.messages("t", "tasks") > 0);
    let error = worker(&[&url, "--name", "t", "--policy-backend", "candle"]);
    assert!(
        error.contains("publishes weights as gguf, and this worker samples safetensors"),
        "{error}"
    );
    trainer.kill();
}

/// A server that takes messages of 150 KB at most.
fn narrow(directory: &Path) -> Option<Vec<String>> {
    let path = directory.join("narrow.conf");
    std::fs::write(&path, "max_payload: 150000\n").unwrap();
    Some(vec!["-c".into(), path.display().to_string()])
}

#[test]
fn a_log_that_is_too_long_for_a_message_goes_through_the_object_store() {
    let Some(place) = Place::open_with(narrow) else { return };
    // A policy that delegates well, on tasks that take it hundreds of nodes.
    let large = [
        "rao.steps=1",
        "rao.difficulty=hard",
        "limits.nodes=2000",
        "limits.tokens=60000",
        "limits.depth=16",
        "model.hidden=64",
        "warmstart.steps=150",
        "warmstart.trees=1500",
        "warmstart.teacher.diligence=1",
        "warmstart.teacher.delegation=1",
        "warmstart.teacher.distraction=0.02",
    ];
    let expected = Trained::alone(place.path(), &large);
    let mut worker = place.worker("t", &[]);
    let mut trainer = place.train("t", &large);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(Trained::of(&place.path().join("t")), expected);
    assert_eq!(trees_of(&mut worker), 16);
    // What was taken is removed; that there was something is kept.
    assert!(place.messages("OBJ_t", "logs") > 0);
    assert!(place.is_empty("t"));
}

/// A certificate for this machine by an authority of its own, in files of this directory; `None` where openssl is missing.
fn certify(directory: &Path) -> Option<Vec<String>> {
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let steps = [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ];
    for step in steps {
        let mut openssl = std::process::Command::new("openssl");
        let made = openssl.current_dir(directory).args(step.split(' ')).output();
        let Ok(made) = made else {
            println!("skipped: workers over TLS: install openssl");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let path = |name: &str| directory.join(name).display().to_string();
    Some(vec![
        "--tls".into(),
        "--tlscert".into(),
        path("server.pem"),
        "--tlskey".into(),
        path("server.key"),
    ])
}

#[test]
fn over_tls_only_a_known_authority_is_believed() {
    let Some(place) = Place::open_with(certify) else { return };
    let here = place.path();
    let url = place.url().replace("nats://", "tls://");
    let stranger = refused(here, &["worker", "--nats", &url]);
    assert!(
        stranger.contains("cannot reach the NATS server at tls://127.0.0.1") && stranger.contains("certificate"),
        "{stranger}"
    );
    let mut worker = place.worker_over_tls("t");
    let mut trainer = place.train_over_tls("t");
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut worker), 16);
}

#[cfg(feature = "llama-cpp")]
#[test]
fn a_quantised_worker_samples_what_the_trainer_publishes() {
    let Some(place) = Place::open() else { return };
    let mut worker = place.worker("t", &["--policy-backend", "llama-cpp"]);
    let mut trainer = place.train("t", &["rao.steps=3", "rollout.quant=f32", "nats.weights=[\"gguf\"]"]);
    assert!(trainer.end().success(), "{}", trainer.said());
    assert_eq!(trees_of(&mut worker), 3 * 16);
    let trained = Trained::of(&place.path().join("t"));
    let steps: Vec<_> = trained
        .metrics
        .iter()
        .filter(|step| step["phase"] == "recursive")
        .collect();
    assert_eq!(steps.len(), 3);
    for step in steps {
        // The weights are the same, step by step; the arithmetic is another.
        let mismatch = step["mismatch"].as_f64().unwrap();
        assert!(mismatch > 0.0 && mismatch < 1e-4, "{mismatch}");
    }
}
