//! Checkpoints that are not what they should be.

use super::*;
use common::{rao, refused, stdout};

/// Steps enough to be stopped among.
const LONG: &str = "rao.steps=16";

/// A run that was stopped in the middle of its recursive arm.
fn stopped(here: &Path, more: &[&str]) -> PathBuf {
    let mut settings = vec![LONG];
    settings.extend(more);
    let mut child = begin(here, &arguments(&settings));
    wait_until("two steps", || steps(here, "recursive") > 1);
    interrupt(&child);
    assert_eq!(end(&mut child).code(), Some(130), "{}", said(here));
    here.join("run")
}

/// Why a run does not go on. Nothing is changed by that.
fn why_not(run: &Path) -> String {
    let metrics = std::fs::read(run.join("metrics.jsonl")).unwrap();
    let before = checkpoints(run);
    let error = refused(run.parent().unwrap(), &["train", "--resume", "run"]);
    assert_eq!(std::fs::read(run.join("metrics.jsonl")).unwrap(), metrics);
    assert_eq!(checkpoints(run), before);
    error
}

#[test]
fn a_checkpoint_that_is_damaged_or_foreign_is_named_and_the_one_before_it_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let expected = Result::uninterrupted(home.path(), &[LONG]);
    let here = tempfile::tempdir().unwrap();
    let run = stopped(here.path(), &[]);
    let names = checkpoints(&run);
    let name = names.iter().rfind(|name| name.starts_with("recursive")).unwrap();
    let newest = run.join("checkpoints").join(name);

    let files = [
        "state.json",
        "model.safetensors",
        "config.json",
        "optimizer.safetensors",
    ];
    for file in files
        .map(|name| newest.join(name))
        .into_iter()
        .chain([run.join("base/model.safetensors")])
    {
        let whole = std::fs::read(&file).unwrap();
        let called = file.strip_prefix(here.path()).unwrap().display().to_string();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let damages = [Some(&whole[..0]), Some(&whole[..whole.len() / 2]), Some(&flipped), None];
        for (case, damage) in damages.into_iter().enumerate() {
            match damage {
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let error = why_not(&run);
            let way_out = if file.starts_with(&newest) {
                format!("remove run/checkpoints/{name} to go on from the one before it")
            } else {
                "every checkpoint after it needs it".into()
            };
            assert!(
                error.contains(&called) && error.contains(&way_out),
                "{called}, {case}: {error}"
            );
        }
        std::fs::write(&file, &whole).unwrap();
    }

    // Measurements that the checkpoint counts on are gone.
    let metrics = run.join("metrics.jsonl");
    let whole = std::fs::read(&metrics).unwrap();
    std::fs::write(&metrics, &whole[..whole.len() / 2]).unwrap();
    let error = refused(here.path(), &["train", "--resume", "run"]);
    assert!(error.contains("metrics.jsonl: has"), "{error}");
    std::fs::write(&metrics, &whole).unwrap();

    // The configuration was changed.
    let config = run.join("config.toml");
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, whole.replace("seed = 5", "seed = 6")).unwrap();
    let error = why_not(&run);
    assert!(error.contains("was written under another config.toml"), "{error}");
    std::fs::write(&config, &whole).unwrap();

    // How long to wait and what to bear may be changed, and comments.
    let changed = whole.replace("failed_max = 0.5", "# more than before\nfailed_max = 0.75");
    assert_ne!(changed, whole);
    std::fs::write(&config, &changed).unwrap();
    let link = run.join("traces/elsewhere");
    std::os::unix::fs::symlink(here.path(), &link).unwrap();
    let error = why_not(&run);
    assert!(error.contains("run/traces/elsewhere is a link"), "{error}");
    std::fs::remove_file(&link).unwrap();

    // One of another run.
    let there = tempfile::tempdir().unwrap();
    let other = stopped(there.path(), &["rao.lr=2e-3"]);
    let foreign = checkpoints(&other)
        .into_iter()
        .rfind(|name| name.starts_with("recursive"))
        .unwrap();
    let aside = run.join("aside");
    std::fs::rename(&newest, &aside).unwrap();
    let taken = run.join("checkpoints").join("recursive-000099");
    std::fs::rename(other.join("checkpoints").join(foreign), &taken).unwrap();
    let error = why_not(&run);
    assert!(error.contains("was written under another config.toml"), "{error}");
    std::fs::remove_dir_all(&taken).unwrap();
    // Its own, under another name; and of a format to come.
    std::fs::rename(&aside, &taken).unwrap();
    let error = why_not(&run);
    assert!(
        error.contains("recursive-000099/state.json: is that of step"),
        "{error}"
    );
    let state = taken.join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replacen("\"format\":1", "\"format\":2", 1)).unwrap();
    let error = why_not(&run);
    assert!(error.contains("has format 2, this version reads 1"), "{error}");

    // Without it the run goes on from the one before.
    std::fs::remove_dir_all(&taken).unwrap();
    stdout(&rao(here.path(), &["train", "--resume", "run"]));
    Result::of(&run).check(&expected, "from the checkpoint before");
}

#[test]
fn what_is_no_run_does_not_go_on() {
    let here = tempfile::tempdir().unwrap();
    let error = refused(here.path(), &["train", "--resume", "run"]);
    assert!(
        error.contains("is not a run of `rao train`: config.toml is missing"),
        "{error}"
    );
    let both = rao(here.path(), &["train", "--resume", "run", "--set", "seed=3"]);
    assert!(String::from_utf8_lossy(&both.stderr).contains("cannot be used with"));
}
