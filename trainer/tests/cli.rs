//! The command `rao` as a person uses it: a run from end to end, and what it says when something is wrong.
#![cfg(feature = "candle")]

mod common;
#[path = "cli/report.rs"]
mod report;

use common::{memory_is_as_predicted, rao, refused, stdout};
use rao_trainer::backend::{Quant, Trainee};
use rao_trainer::config::Config;
use serde_json::Value;

/// A run that is short enough for a test and long enough to learn: the recipe of the quickstart with fewer steps.
const SHORT: [&str; 11] = [
    "train",
    "--run",
    "run",
    "--set",
    "rao.steps=20",
    "--set",
    "eval.hard=20",
    "--set",
    "eval.extreme=1",
    "--set",
    "seed=1",
];

#[test]
fn a_run_learns_to_delegate_and_everything_it_leaves_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let printed = stdout(&rao(here, &SHORT));
    assert!(
        printed.contains("recursive  hard") && printed.contains("flat       medium"),
        "{printed}"
    );

    let run = here.join("run");
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
    for arm in ["recursive", "flat"] {
        for difficulty in ["easy", "medium", "hard", "extreme"] {
            for key in ["greedy", "t1", "nodes", "tokens", "seconds"] {
                assert!(
                    summary[arm][difficulty][key].is_number(),
                    "{arm}.{difficulty}.{key} in {summary}"
                );
            }
        }
    }
    assert!(summary["train_seconds"].is_number() && summary["total_seconds"].is_number() && summary["seed"] == 1);
    memory_is_as_predicted(&summary);
    let attempts: Value = serde_json::from_str(&read("run.json")).unwrap();
    assert_eq!(attempts.as_array().unwrap().len(), 1);
    let attempt = &attempts[0];
    assert_eq!(
        (&attempt["rao"], &attempt["seeds"]["run"]),
        (&env!("CARGO_PKG_VERSION").into(), &1.into())
    );
    assert!(
        attempt["packages"]["candle-core"].is_string() && attempt["seeds"]["flat"].is_u64(),
        "{attempt}"
    );
    // A third of the quickstart's optimization: far above the 0 of base and flat twin.
    let greedy = |arm: &str, difficulty: &str| summary[arm][difficulty]["greedy"].as_f64().unwrap();
    assert!(greedy("recursive", "medium") > 0.5, "{summary}");
    assert!(greedy("flat", "medium") < 0.15, "{summary}");
    assert_eq!(greedy("flat", "hard"), 0.0);
    let steps: Vec<Value> = read("metrics.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.iter().filter(|step| step["phase"] == "recursive").count(), 20);
    for step in steps.iter().filter(|step| step["phase"] != "warmstart") {
        // The sampler holds the learner's weights at full precision, and gets those of every step.
        assert_eq!(
            (&step["staleness"], &step["stale_dropped"]),
            (&0.into(), &0.into()),
            "{step}"
        );
        let mismatch = &step["mismatch"];
        assert!(mismatch.is_null() || mismatch.as_f64().unwrap() < 1e-4, "{step}");
        assert!(step["kl"].is_number() && step["incident"].is_null(), "{step}");
    }
    let tokens = |phase: &str| {
        let last = steps.iter().rfind(|step| step["phase"] == phase).unwrap();
        last["tokens_total"].as_u64().unwrap()
    };
    assert!(
        tokens("flat") >= tokens("recursive"),
        "the flat twin gets as many environment tokens"
    );

    // The evaluation of the saved policy is that of the run, to the last digit but for the clock.
    let scores = stdout(&rao(
        here,
        &["eval", "--policy", "run", "--tasks", "easy,medium", "--json"],
    ));
    let scores: Value = serde_json::from_str(&scores).unwrap();
    for key in ["greedy", "t1", "tokens", "nodes", "critical_path", "unjudged"] {
        assert_eq!(scores["medium"][key], summary["recursive"]["medium"][key], "{key}");
    }
    assert!(scores["hard"].is_null(), "what was not asked for is not reported");

    let shown = stdout(&rao(
        here,
        &[
            "rollout",
            "--policy",
            "run",
            "--task",
            "textcraft_synth.val.1",
            "--trace",
            "t.rao",
        ],
    ));
    assert!(shown.contains("m3_i5_13") && shown.contains("└─"), "{shown}");
    let traced = stdout(&rao(here, &["trace", "t.rao"]));
    assert!(shown.contains(traced.trim_end()), "the trace shows the same tree");

    // Nothing is overwritten, and damaged files are named.
    assert!(refused(here, &SHORT).contains("already exists"));
    let weights = run.join("recursive/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let error = refused(here, &["eval", "--policy", "run"]);
    assert!(error.contains("model.safetensors"), "{error}");
    let trace = std::fs::read(here.join("t.rao")).unwrap();
    std::fs::write(here.join("t.rao"), &trace[..trace.len() - 3]).unwrap();
    let torn = rao(here, &["trace", "t.rao"]);
    let error = String::from_utf8(torn.stderr).unwrap();
    assert!(error.contains("t.rao") && error.contains("at byte"), "{error}");
    assert!(
        String::from_utf8(torn.stdout).unwrap().contains("m3_i5_13"),
        "what was whole is shown"
    );
    assert_eq!(torn.status.code(), Some(1));
}

#[test]
fn a_sampler_that_differs_is_warned_of_and_corrected_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = vec!["train", "--run", "run"];
    for setting in [
        "warmstart.steps=100",
        "warmstart.trees=1000",
        "rao.steps=3",
        "rao.correction=sequence-mask",
        "rao.ratio_low=0.5",
        "rao.ratio_clip=2",
        // Any difference at all: sampler and learner differ in their last bits.
        "rao.mismatch_warn=0",
        "flat.enabled=false",
        "eval.difficulties=[\"easy\"]",
        "eval.easy=2",
    ] {
        arguments.extend(["--set", setting]);
    }
    let output = rao(directory.path(), &arguments);
    stdout(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("rao: warning: recursive, step "), "{said}");
    assert!(
        said.contains("rao.mismatch_warn is 0") && said.lines().count() <= 3,
        "{said}"
    );
    let metrics = std::fs::read_to_string(directory.path().join("run/metrics.jsonl")).unwrap();
    let steps = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mismatches: Vec<f64> = steps.filter_map(|step| step["mismatch"].as_f64()).collect();
    assert!(
        !mismatches.is_empty() && mismatches.iter().all(|m| (0.0..1e-4).contains(m)),
        "{mismatches:?}"
    );
}

#[test]
fn a_policy_is_exported_for_other_programs() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let config = Config::default();
    let policy = Trainee::new(&config).unwrap();
    let run = here.join("run");
    policy.save(&run.join("recursive")).unwrap();
    std::fs::write(run.join("config.toml"), config.to_toml().unwrap()).unwrap();
    let read = |name: &str| std::fs::read(here.join(name)).unwrap();

    // A run, or the directory of its policy; what comes out is what the library writes.
    let printed = stdout(&rao(here, &["export", "run", "-o", "run.gguf"]));
    assert!(
        printed.contains("run.gguf") && printed.contains("96768 parameters as f32"),
        "{printed}"
    );
    policy.export(Quant::F32, &here.join("expected.gguf")).unwrap();
    assert_eq!(read("run.gguf"), read("expected.gguf"));
    let policy_directory = ["export", "run/recursive", "--quant", "q8_0", "-o", "small.gguf"];
    let printed = stdout(&rao(here, &policy_directory));
    let (large, small) = (read("run.gguf"), read("small.gguf"));
    assert!(printed.contains(&format!("{} bytes", small.len())), "{printed}");
    assert!(small.starts_with(b"GGUF") && 3 * small.len() < large.len());
    for word in ["SPAWN", "S63", "#32", "<unused0>"] {
        assert!(
            small.windows(word.len()).any(|bytes| bytes == word.as_bytes()),
            "{word}"
        );
    }
    stdout(&rao(
        here,
        &["export", "run", "--format", "safetensors", "-o", "copy/of/it"],
    ));
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(
            read(&format!("copy/of/it/{file}")),
            read(&format!("run/recursive/{file}"))
        );
    }

    // Nothing is overwritten unless that is asked for.
    let error = refused(here, &["export", "run", "--quant", "f16", "-o", "run.gguf"]);
    assert!(error.contains("already exists") && error.contains("--force"), "{error}");
    let again = ["export", "run", "--format", "safetensors", "-o", "copy/of/it"];
    assert!(refused(here, &again).contains("config.json already exists"));
    assert_eq!(read("run.gguf"), large);
    stdout(&rao(
        here,
        &["export", "run", "--quant", "f16", "-o", "run.gguf", "--force"],
    ));
    assert!(read("run.gguf").len() < large.len());
    for (arguments, said) in [
        (vec!["absent", "-o", "x.gguf"], "config.toml is missing"),
        (vec!["run", "--arm", "flat", "-o", "x.gguf"], "run/flat"),
        (
            vec!["run/recursive", "--arm", "flat", "-o", "x.gguf"],
            "leave --arm out",
        ),
        (vec!["run", "-o", "run"], "run/policy.gguf"),
        (vec!["run", "-o", "absent/x.gguf"], "no directory absent"),
        (
            vec!["run", "--format", "safetensors", "-o", "run.gguf"],
            "name a directory",
        ),
        (
            vec!["run", "--format", "safetensors", "--quant", "f16", "-o", "x"],
            "--quant f16 is for GGUF",
        ),
    ] {
        let error = refused(here, &[vec!["export"], arguments.clone()].concat());
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    let unknown = rao(here, &["export", "run", "--quant", "q9", "-o", "x.gguf"]);
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.contains("f32, f16, q8_0, q4_0"), "{error}");
    assert!(!here.join("x.gguf").exists() && !here.join("x").exists() && !here.join("absent").exists());
}

#[test]
fn a_dry_run_says_what_a_run_would_do_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let printed = stdout(&rao(
        here,
        &[
            "train",
            "--dry-run",
            "--set",
            "flat.enabled=false",
            "--set",
            "eval.easy=7",
        ],
    ));
    for line in [
        "to train on       588 easy, 852 medium, 544 hard, 538 extreme",
        "RAO               60 steps of 8 tasks x 8 trees on medium tasks",
        "live nodes        at most 9600 at once, of at most ",
        "evaluation        the policy, greedy and at temperature 1: 7 easy, 213 medium, 136 hard, 16 extreme",
        "moments of AdamW",
        "it fits",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let plan: Value = serde_json::from_str(&stdout(&rao(here, &["train", "--dry-run", "--json"]))).unwrap();
    assert_eq!(
        (
            &plan["plan"]["held_out"]["extreme"],
            &plan["plan"]["evaluated"]["extreme"]
        ),
        (&136.into(), &16.into())
    );
    assert_eq!(plan["plan"]["trained_parameters"], 96_768);
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0);
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for (arguments, said) in [
        (vec!["train", "--set", "rao.stepz=1"], "did you mean `rao.steps`"),
        (vec!["train", "--set", "rao.trees=0"], "rao.trees"),
        (vec!["train", "--set", "rao.trees=1"], "leave-one-out"),
        (vec!["train", "--set", "world.source=nowhere"], "world.source"),
        (vec!["train", "--set", "model.heads=3"], "model"),
        (vec!["train", "--set", "device=tpu"], "device"),
        (vec!["train", "--set", "limits.seconds=1e20"], "limits"),
        (vec!["train", "--config", "absent.toml"], "absent.toml"),
        (vec!["eval", "--policy", "absent"], "config.toml is missing"),
        (vec!["trace", "absent.rao"], "absent.rao"),
    ] {
        let error = refused(here, &arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0);
}

/// Candle trains, llama.cpp samples, quantised; and the file that comes of it is sampled alone.
#[cfg(feature = "llama-cpp")]
#[test]
fn a_quantised_policy_is_trained_exported_and_sampled() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut arguments = vec!["train", "--run", "run"];
    for setting in [
        "rollout.backend=llama-cpp",
        "rollout.quant=q8_0",
        "warmstart.steps=100",
        "warmstart.trees=1000",
        "rao.steps=3",
        "rao.tasks=4",
        "flat.enabled=false",
        "eval.difficulties=[\"easy\"]",
        "eval.easy=4",
    ] {
        arguments.extend(["--set", setting]);
    }
    stdout(&rao(here, &arguments));
    let metrics = std::fs::read_to_string(here.join("run/metrics.jsonl")).unwrap();
    let steps = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mismatches: Vec<f64> = steps.filter_map(|step| step["mismatch"].as_f64()).collect();
    // Eight bits are off by a little: more than rounding in f32, less than would make the ratio useless.
    assert_eq!(mismatches.len(), 3);
    assert!(mismatches.iter().all(|m| (1e-5..0.1).contains(m)), "{mismatches:?}");

    for quant in ["f32", "q4_k_m"] {
        let name = format!("{quant}.gguf");
        stdout(&rao(here, &["export", "run", "--quant", quant, "-o", &name]));
        let score = |policy: &[&str]| -> Value {
            let rest = ["--tasks", "easy", "--limit", "8", "--json"];
            let arguments = [&["eval"], policy, &rest].concat();
            let scores: Value = serde_json::from_str(&stdout(&rao(here, &arguments))).unwrap();
            scores["easy"].clone()
        };
        let of_file = score(&["--policy", &name]);
        let of_run = score(&["--policy", "run", "--quant", quant]);
        for key in ["greedy", "t1", "nodes", "tokens"] {
            assert_eq!(of_file[key], of_run[key], "{quant}: {key}");
        }
    }
    let printed = stdout(&rao(here, &["rollout", "--policy", "f32.gguf", "--task", "easy"]));
    assert!(printed.contains("easy task"), "{printed}");

    for (arguments, said) in [
        (
            vec!["eval", "--policy", "f32.gguf", "--quant", "q8_0"],
            "as it is quantised",
        ),
        (vec!["eval", "--policy", "run/config.toml"], "not a GGUF file"),
        (vec!["eval", "--policy", "run", "--quant", "q9"], "q4_k_m"),
        (
            vec![
                "train",
                "--run",
                "other",
                "--set",
                "rollout.backend=llama-cpp",
                "--set",
                "rollout.quant=q9",
            ],
            "q4_k_m",
        ),
    ] {
        let error = refused(here, &arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    assert!(!here.join("other").exists());
}
