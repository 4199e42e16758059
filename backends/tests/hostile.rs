//! Files of models that somebody has damaged or made up: a clear error, no panic, and no memory that the files do not warrant.

#![cfg(all(feature = "candle", feature = "text"))]

#[path = "../../tests/support/counting.rs"]
mod counting;
#[path = "../../tests/support/mutate.rs"]
mod mutate;

use counting::most_taken;
use mutate::mutated;
use rao_backends::candle::{Adapter, Device, LoraConfig, ModelConfig, Weights};
use rao_backends::files;
use rao_backends::text::{ChatTemplate, Conversation, Tokenizer};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const DEVICE: Device = Device::Cpu;
/// What a reader may take besides a few times the files.
const SMALL: usize = 8 << 20;

/// One test at a time: what is taken is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn small() -> ModelConfig {
    ModelConfig {
        hidden_size: 8,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        intermediate_size: 8,
        ..ModelConfig::tiny(16)
    }
}

fn size(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len() as usize)
        .sum()
}

/// Damages one file after the other, in so many ways each, and reads the directory every time. Returns how often it was read all the same.
fn try_damaged(dir: &Path, files: &[&str], cases: u64, read: impl Fn(&Path) -> Result<(), String>) -> usize {
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    read(dir).unwrap();
    let mut accepted = 0;
    for file in files {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        for case in 0..cases {
            let damaged = mutated(&whole, case);
            fs::write(&path, &damaged).unwrap();
            let (outcome, most) = most_taken(|| read(dir));
            let allowed = 40 * size(dir) + SMALL;
            assert!(
                most <= allowed,
                "{file}, case {case}: {most} bytes were taken, {allowed} would do"
            );
            match outcome {
                Ok(()) => accepted += 1,
                Err(error) => assert!(!error.is_empty()),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    read(dir).unwrap();
    accepted
}

fn load(dir: &Path) -> Result<(), String> {
    Weights::load(dir, &DEVICE).map(drop).map_err(|error| error.to_string())
}

#[test]
fn damaged_weights_are_refused_and_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    Weights::new(&small(), 1, &DEVICE).unwrap().save(dir.path()).unwrap();
    try_damaged(dir.path(), &["config.json", "model.safetensors"], 1_500, load);

    let dir = tempfile::tempdir().unwrap();
    let weights = Weights::new(&small(), 1, &DEVICE).unwrap();
    weights.save_as(dir.path(), weights.dtype(), Some(2_000)).unwrap();
    try_damaged(dir.path(), &["model.safetensors.index.json"], 1_500, load);
}

/// A safetensors file with this header and so many bytes behind it.
fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

#[test]
fn headers_that_lie_are_refused() {
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let dir = tempfile::tempdir().unwrap();
    Weights::new(&small(), 1, &DEVICE).unwrap().save(dir.path()).unwrap();
    let path = dir.path().join("model.safetensors");
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"model.embed_tokens.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let longest = u64::MAX;
    let half = 1_u64 << 63;
    for file in [
        Vec::new(),
        longest.to_le_bytes().to_vec(),
        99_000_000_u64.to_le_bytes().to_vec(),
        safetensors(&deep, 0),
        safetensors("{}", 0),
        safetensors("null", 0),
        safetensors(&tensor("U8", &format!("[{longest}]"), 0, longest), 0),
        safetensors(&tensor("F32", &format!("[{half},{half}]"), 0, 0), 0),
        safetensors(&tensor("F32", "[16,8]", 0, longest), 512),
        safetensors(&tensor("F32", "[16,8]", 512, 0), 512),
        safetensors(&tensor("F32", "[16,8]", longest - 512, longest), 512),
        safetensors(&tensor("F32", "[]", 0, 4), 4),
        safetensors(&tensor("F4", "[16,8]", 0, 64), 64),
        safetensors(&tensor("F32", "[16,8]", 0, 512), 511),
    ] {
        fs::write(&path, &file).unwrap();
        let (outcome, most) = most_taken(|| load(dir.path()));
        assert!(outcome.is_err());
        assert!(most <= 40 * file.len() + SMALL, "{most} bytes for {}", file.len());
    }
}

#[test]
fn shapes_beyond_all_models_are_refused_by_name() {
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let dir = tempfile::tempdir().unwrap();
    Weights::new(&small(), 1, &DEVICE).unwrap().save(dir.path()).unwrap();
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for huge in [1_u64 << 36, (1 << 62) + 2, u64::MAX - 1] {
            let mut fields: serde_json::Value = serde_json::from_str(&text).unwrap();
            fields[field] = huge.into();
            fs::write(&path, fields.to_string()).unwrap();
            let (outcome, most) = most_taken(|| load(dir.path()));
            let error = outcome.unwrap_err();
            assert!(error.contains(field), "{error}");
            assert!(most < SMALL, "{most} bytes for {field}");
        }
    }
}

#[test]
fn damaged_adapters_are_refused_and_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let config = small();
    let adapter = Adapter::new(&config, LoraConfig::new(2), 1, &DEVICE).unwrap();
    adapter.save(dir.path(), "base").unwrap();
    let read = |dir: &Path| {
        let read = Adapter::load(dir, &config, &DEVICE).map(drop);
        read.and_then(|()| LoraConfig::base(dir).map(drop))
            .map_err(|error| error.to_string())
    };
    try_damaged(
        dir.path(),
        &["adapter_config.json", "adapter_model.safetensors"],
        1_500,
        read,
    );
}

fn text_model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text").join(name)
}

fn conversation(messages: &[serde_json::Value]) -> Conversation<'_> {
    Conversation {
        messages,
        tools: &[],
        add_generation_prompt: true,
        options: None,
        now: None,
    }
}

#[test]
fn damaged_tokenizers_and_templates_are_refused_and_take_no_memory() {
    // Panics of the crate are caught. To print where they come from would take more memory than the files.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic
            .location()
            .is_none_or(|place| !place.file().contains("tokenizers"))
        {
            loud(panic);
        }
    }));
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(text_model("qwen")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    let messages = [serde_json::json!({ "role": "user", "content": "</script> hello" })];
    let conversation = conversation(&messages);
    let read = |dir: &Path| {
        let tokenizer = Tokenizer::load(dir).map_err(|error| error.to_string())?;
        let tokens = tokenizer.encode("hello there").map_err(|error| error.to_string())?;
        tokenizer.decode(&tokens, true).map_err(|error| error.to_string())?;
        let template = ChatTemplate::load(dir).map_err(|error| error.to_string())?;
        template
            .render(&conversation)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let files = [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ];
    try_damaged(dir.path(), &files, 300, read);
}

/// A template is a program, and ends all the same.
#[test]
fn a_template_without_an_end_is_refused() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new("endless", endless, &[]).unwrap();
    let messages = [serde_json::json!({ "role": "user", "content": "hello" })];
    let conversation = conversation(&messages);
    let error = template.render(&conversation).unwrap_err().to_string();
    assert!(error.contains("endless"), "{error}");
    let recursive = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}";
    let template = ChatTemplate::new("recursive", recursive, &[]).unwrap();
    assert!(template.render(&conversation).is_err());
}

#[test]
fn what_is_no_file_or_too_long_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "twelve bytes").unwrap();
    assert_eq!(files::read_text(&path, 12).unwrap(), "twelve bytes");
    let refused = files::read(&path, 11).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    assert_eq!(refused.to_string(), "it takes 12 bytes, and at most 11 are read");
    assert_eq!(files::read(dir.path(), 12).unwrap_err().kind(), ErrorKind::InvalidInput);
    let absent = files::read(&dir.path().join("absent"), 12).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    // Takes no place on the disk.
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert_eq!(files::read(&path, 1 << 30).unwrap_err().kind(), ErrorKind::FileTooLarge);
    fs::write(&path, [0xff]).unwrap();
    assert_eq!(files::read_text(&path, 12).unwrap_err().kind(), ErrorKind::InvalidData);
}

/// Opening a pipe that nobody writes to would wait for ever.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Weights::new(&small(), 1, &DEVICE).unwrap().save(dir.path()).unwrap();
    for file in ["model.safetensors", "config.json"] {
        let path = dir.path().join(file);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = load(dir.path()).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }
    let error = files::read(Path::new("/dev/zero"), 12).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
