//! GGUF files with the vocabulary of a Hugging Face tokenizer, read back with Candle's reader and with llama.cpp.
#![cfg(all(feature = "candle", feature = "text"))]

use candle_core::quantized::gguf_file::{Content, Value};
use rao_backends::candle::gguf::{self, Quant, TokenizerVocabularyError, Vocabulary};
use rao_backends::candle::{Device, ModelConfig, Weights};
use rao_backends::text::{ChatTemplate, Tokenizer};
use rao_tree::WeightsVersion;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Rows of the embedding: six more than there are tokens.
const ROWS: usize = 540;
const TOKENS: usize = 534;

fn qwen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/text/qwen")
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&qwen()).unwrap()
}

fn vocabulary() -> Vocabulary {
    let template = ChatTemplate::load(&qwen()).unwrap();
    Vocabulary::from_tokenizer(&tokenizer(), ROWS)
        .unwrap()
        .with_chat_template(template.source())
}

fn weights() -> Weights {
    Weights::new(&ModelConfig::tiny(ROWS), 11, &Device::Cpu).unwrap()
}

/// Qwen's directory with another `tokenizer.json`.
fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Tokenizer {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(qwen().join(name)).unwrap();
    let mut definition = serde_json::from_str(&read("tokenizer.json")).unwrap();
    change(&mut definition);
    std::fs::write(directory.path().join("tokenizer.json"), definition.to_string()).unwrap();
    std::fs::write(
        directory.path().join("tokenizer_config.json"),
        read("tokenizer_config.json"),
    )
    .unwrap();
    Tokenizer::load(directory.path()).unwrap()
}

#[test]
fn the_file_describes_the_tokenizer() {
    let mut bytes = Vec::new();
    gguf::write(&weights(), &vocabulary(), Quant::F32, WeightsVersion(1), &mut bytes).unwrap();
    let metadata = Content::read(&mut Cursor::new(bytes)).unwrap().metadata;
    let (text, number) = (|text: &str| Value::String(text.to_owned()), Value::U32);
    for (key, expected) in [
        ("model", text("gpt2")),
        ("pre", text("qwen2")),
        // Qwen has no beginning; llama.cpp needs one, and gets what fills.
        ("bos_token_id", number(520)),
        ("eos_token_id", number(522)),
        ("padding_token_id", number(520)),
        ("add_bos_token", Value::Bool(false)),
    ] {
        let found = metadata.get(&format!("tokenizer.ggml.{key}"));
        assert_eq!(format!("{found:?}"), format!("{:?}", Some(expected)), "{key}");
    }
    let template = std::fs::read_to_string(qwen().join("chat_template.jinja")).unwrap();
    assert_eq!(*metadata["tokenizer.chat_template"].to_string().unwrap(), template);

    let strings = |key: &str| -> Vec<String> {
        let values = metadata[key].to_vec().unwrap();
        values.iter().map(|value| value.to_string().unwrap().clone()).collect()
    };
    let kinds: Vec<i32> = metadata["tokenizer.ggml.token_type"]
        .to_vec()
        .unwrap()
        .iter()
        .map(|kind| kind.to_i32().unwrap())
        .collect();
    let tokens = strings("tokenizer.ggml.tokens");
    assert_eq!((tokens.len(), kinds.len()), (ROWS, ROWS));
    for (at, token, kind) in [
        (0, "!", 1),
        (519, tokens[519].as_str(), 1),
        (520, "<|endoftext|>", 3),
        (524, "<|object_ref_end|>", 3),
        // Added, but not special.
        (525, "<tool_call>", 4),
        (533, "</think>", 4),
        (534, "[PAD534]", 5),
        (539, "[PAD539]", 5),
    ] {
        assert_eq!((tokens[at].as_str(), kinds[at]), (token, kind));
    }
    let merges = strings("tokenizer.ggml.merges");
    assert_eq!(merges.len(), 264);
    assert_eq!(merges[0], "Ġ Ġ");
    assert_eq!(
        metadata[gguf::VOCABULARY_KEY].to_string().unwrap(),
        &tokenizer().fingerprint(ROWS).unwrap()
    );
}

#[test]
fn merges_are_read_in_either_spelling() {
    let other = changed(|definition| {
        for merge in definition["model"]["merges"].as_array_mut().unwrap() {
            let [left, right] = [0, 1].map(|at| merge[at].as_str().unwrap());
            *merge = format!("{left} {right}").into();
        }
    });
    let template = ChatTemplate::load(&qwen()).unwrap();
    let other = Vocabulary::from_tokenizer(&other, ROWS)
        .unwrap()
        .with_chat_template(template.source());
    assert_eq!(other, vocabulary());
}

#[test]
fn what_llama_cpp_would_read_otherwise_is_refused() {
    let error = |tokenizer: &Tokenizer, rows| Vocabulary::from_tokenizer(tokenizer, rows).unwrap_err();
    let small = error(&tokenizer(), TOKENS - 1).to_string();
    assert!(small.contains("534") && small.contains("533"), "{small}");
    let words =
        changed(|definition| definition["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+".into());
    let error = error(&words, ROWS);
    assert!(
        matches!(
            error,
            TokenizerVocabularyError::NotQwen {
                part: "the pre-tokenizer",
                ..
            }
        ),
        "{error}"
    );
}

#[cfg(feature = "llama-cpp")]
#[test]
fn llama_cpp_finds_the_same_tokens() {
    use llama_cpp_2::llama_backend::LlamaBackend;
    use llama_cpp_2::model::LlamaModel;
    use llama_cpp_2::model::params::LlamaModelParams;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::save(&weights(), &vocabulary(), Quant::F32, WeightsVersion(1), &path).unwrap();
    let info = rao_backends::llama_cpp::inspect(&path);
    assert_eq!(info.as_ref().unwrap().vocab, ROWS);
    assert_eq!(info.unwrap().fingerprint, Some(tokenizer().fingerprint(ROWS).unwrap()));

    // `inspect` has initialised llama.cpp for the whole process; this is the proof of it, and must not undo it.
    assert!(LlamaBackend::init().is_err());
    let backend = std::mem::ManuallyDrop::new(LlamaBackend {});
    let model = LlamaModel::load_from_file(&backend, &path, &LlamaModelParams::default()).unwrap();
    let tokenizer = tokenizer();
    let cases: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(qwen().join("../tokens.json")).unwrap()).unwrap();
    let (mut same, mut other) = (0, Vec::new());
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ours: Vec<u32> = tokenizer.encode(text).unwrap().iter().map(|token| token.0).collect();
        let theirs: Vec<u32> = model
            .vocab()
            .tokenize(text.as_bytes(), false, true)
            .iter()
            .map(|token| token.0 as u32)
            .collect();
        if ours == theirs {
            same += 1;
        } else {
            other.push(text);
        }
    }
    assert!(same >= 100, "{same} texts, not {other:?}");
    // llama.cpp does not normalise: these hold letters and their accents apart (NFC would join them).
    let apart = [
        "cafe\u{301}",
        "e\u{301}e\u{301}",
        "n\u{303}",
        "A\u{30a}ngstro\u{308}m",
        "\u{1112}\u{1161}\u{11ab}",
        "n\u{303}<think>n\u{303}",
    ];
    assert_eq!(other, apart);
}
