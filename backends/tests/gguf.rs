//! GGUF files, read back with Candle's own reader: every key, every tensor, every number.
#![cfg(feature = "candle")]

use candle_core::Tensor;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use rao_backends::candle::gguf::{
    self, Adapter, AdapterTensor, GgufError, Quant, SpecialTokens, TokenKind, Vocabulary, VocabularyError,
};
use rao_backends::candle::{DType, Device, ModelConfig, RopeScaling, Weights, Yarn};
use rao_tree::{Token, WeightsVersion};
use std::collections::BTreeSet;
use std::io::Cursor;

const SPECIAL: SpecialTokens = SpecialTokens {
    bos: Token(0),
    eos: Token(2),
    pad: Token(1),
};

/// `W0`, `W1`, ...; the first is unused, the second a mark.
fn vocabulary(size: usize) -> Vocabulary {
    let kind = |token| match token {
        0 => TokenKind::Unused,
        1 => TokenKind::Control,
        _ => TokenKind::Word,
    };
    Vocabulary::new((0..size).map(|token| (format!("W{token}"), kind(token))), SPECIAL).unwrap()
}

fn weights(config: &ModelConfig) -> Weights {
    Weights::new(config, 11, &Device::Cpu).unwrap()
}

fn tiny() -> ModelConfig {
    ModelConfig::tiny(13)
}

/// Grouped-query attention, a head that is not `hidden / heads` wide, three blocks.
fn grouped(tied: bool) -> ModelConfig {
    ModelConfig {
        num_hidden_layers: 3,
        num_key_value_heads: 2,
        head_dim: 24,
        tie_word_embeddings: tied,
        ..tiny()
    }
}

fn bytes(weights: &Weights, quant: Quant) -> Vec<u8> {
    let mut bytes = Vec::new();
    let vocabulary = vocabulary(weights.config().vocab_size);
    gguf::write(weights, &vocabulary, quant, WeightsVersion(7), &mut bytes).unwrap();
    bytes
}

fn error(weights: &Weights, quant: Quant) -> GgufError {
    let vocabulary = vocabulary(weights.config().vocab_size);
    gguf::write(weights, &vocabulary, quant, WeightsVersion(7), &mut std::io::sink()).unwrap_err()
}

fn content(bytes: &[u8]) -> Content {
    Content::read(&mut Cursor::new(bytes)).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The tensor of that name in the file, as f32, and how it was stored.
fn stored(content: &Content, bytes: &[u8], name: &str) -> (Tensor, GgmlDType) {
    let tensor = content.tensor(&mut Cursor::new(bytes), name, &Device::Cpu).unwrap();
    (tensor.dequantize(&Device::Cpu).unwrap(), tensor.dtype())
}

/// Names as llama.cpp wants them, beside those of Hugging Face, from its documentation rather than from the code under test.
fn names(config: &ModelConfig) -> Vec<(String, String)> {
    let mut names = vec![("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned())];
    for layer in 0..config.num_hidden_layers {
        for (gguf, hf) in [
            ("attn_norm", "input_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_q_norm", "self_attn.q_norm"),
            ("attn_k_norm", "self_attn.k_norm"),
            ("attn_output", "self_attn.o_proj"),
            ("ffn_norm", "post_attention_layernorm"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ] {
            names.push((
                format!("blk.{layer}.{gguf}.weight"),
                format!("model.layers.{layer}.{hf}.weight"),
            ));
        }
    }
    names.push(("output_norm.weight".to_owned(), "model.norm.weight".to_owned()));
    if !config.tie_word_embeddings {
        names.push(("output.weight".to_owned(), "lm_head.weight".to_owned()));
    }
    names
}

#[test]
fn every_key_says_what_the_model_is() {
    let config = grouped(false);
    for (quant, file_type) in [(Quant::F32, 0), (Quant::F16, 1), (Quant::Q8_0, 7), (Quant::Q4_0, 2)] {
        let content = content(&bytes(&weights(&config), quant));
        let texts: Vec<String> = (0..13).map(|token| format!("W{token}")).collect();
        let strings = |values: &[String]| values.iter().cloned().map(Value::String).collect();
        let mut kinds = vec![Value::I32(4); 13];
        (kinds[0], kinds[1]) = (Value::I32(5), Value::I32(3));
        let mut expected = vec![
            ("general.architecture", Value::String("qwen3".into())),
            ("general.name", Value::String("rao policy".into())),
            ("general.file_type", Value::U32(file_type)),
            ("qwen3.context_length", Value::U32(4096)),
            ("qwen3.embedding_length", Value::U32(64)),
            ("qwen3.block_count", Value::U32(3)),
            ("qwen3.feed_forward_length", Value::U32(128)),
            ("qwen3.attention.head_count", Value::U32(4)),
            ("qwen3.attention.head_count_kv", Value::U32(2)),
            ("qwen3.attention.key_length", Value::U32(24)),
            ("qwen3.attention.value_length", Value::U32(24)),
            ("qwen3.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("qwen3.rope.freq_base", Value::F32(1000.0)),
            ("qwen3.vocab_size", Value::U32(13)),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
            ("tokenizer.ggml.tokens", Value::Array(strings(&texts))),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            // One at least, or llama.cpp refuses the file.
            ("tokenizer.ggml.merges", Value::Array(vec![Value::String("Ġ Ġ".into())])),
            ("tokenizer.ggml.bos_token_id", Value::U32(0)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.padding_token_id", Value::U32(1)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
            (
                gguf::VOCABULARY_KEY,
                Value::String(vocabulary(13).fingerprint().to_owned()),
            ),
            (gguf::WEIGHTS_VERSION_KEY, Value::U64(7)),
        ];
        if matches!(quant, Quant::Q8_0 | Quant::Q4_0) {
            expected.push(("general.quantization_version", Value::U32(2)));
        }
        for (key, value) in &expected {
            let found = content.metadata.get(*key);
            assert_eq!(format!("{found:?}"), format!("{:?}", Some(value)), "{key}");
        }
        let keys: BTreeSet<&str> = content.metadata.keys().map(String::as_str).collect();
        assert_eq!(keys, expected.iter().map(|(key, _)| *key).collect());
    }
}

fn stretched(scaling: RopeScaling) -> Weights {
    weights(&ModelConfig {
        rope_scaling: Some(scaling),
        ..tiny()
    })
}

#[test]
fn rope_scaling_has_keys_of_its_own() {
    let keys = |scaling| {
        let content = content(&bytes(&stretched(scaling), Quant::F32));
        let mut keys: Vec<String> = content
            .metadata
            .iter()
            .filter_map(|(key, value)| Some(format!("{} {value:?}", key.strip_prefix("qwen3.rope.scaling.")?)))
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(
        keys(RopeScaling::Linear { factor: 3.0 }),
        ["factor F32(3.0)", "type String(\"linear\")"]
    );
    let yarn = Yarn::new(4.0, 32_768);
    let usual = [
        "factor F32(4.0)",
        "original_context_length U32(32768)",
        "type String(\"yarn\")",
    ];
    assert_eq!(keys(RopeScaling::Yarn(yarn)), usual);
    let sharper = Yarn {
        attention_factor: Some(2.0 * (0.1 * 4.0_f64.ln() + 1.0)),
        ..yarn
    };
    let sharper = keys(RopeScaling::Yarn(sharper));
    assert_eq!(
        (sharper[0].as_str(), &sharper[1..]),
        ("attn_factor F32(2.0)", &usual.map(str::to_owned)[..])
    );
}

#[test]
fn rope_scaling_that_llama_cpp_cannot_do_is_refused() {
    let yarn = Yarn::new(4.0, 1024);
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    for (scaling, part) in [
        (llama3, "llama3"),
        (
            RopeScaling::Yarn(Yarn {
                beta_fast: 16.0,
                ..yarn
            }),
            "beta_fast",
        ),
        (RopeScaling::Yarn(Yarn { beta_slow: 2.0, ..yarn }), "beta_slow"),
        (
            RopeScaling::Yarn(Yarn {
                truncate: false,
                ..yarn
            }),
            "truncate",
        ),
        (RopeScaling::Yarn(Yarn::new(4.0, 1)), "too short"),
    ] {
        let message = error(&stretched(scaling), Quant::F32).to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn weights_in_half_precision_are_written_like_any() {
    let dir = tempfile::tempdir().unwrap();
    weights(&tiny()).save_as(dir.path(), DType::BF16, None).unwrap();
    let half = Weights::load_as(dir.path(), DType::BF16, &Device::Cpu).unwrap();
    let full = Weights::load(dir.path(), &Device::Cpu).unwrap();
    for quant in [Quant::F32, Quant::Q8_0] {
        assert!(bytes(&half, quant) == bytes(&full, quant), "{quant}");
    }
}

#[test]
fn f32_holds_the_very_bits_under_llama_cpps_names() {
    for config in [tiny(), grouped(false), grouped(true)] {
        let weights = weights(&config);
        let bytes = bytes(&weights, Quant::F32);
        let content = content(&bytes);
        let names = names(&config);
        assert_eq!(content.tensor_infos.len(), names.len());
        assert_eq!(
            content.tensor_infos.contains_key("output.weight"),
            !config.tie_word_embeddings
        );
        for (name, hf) in &names {
            let (found, dtype) = stored(&content, &bytes, name);
            let expected = weights.get(hf).unwrap();
            assert_eq!(dtype, GgmlDType::F32, "{name}");
            assert_eq!(found.dims(), expected.dims(), "{name}");
            assert_eq!(numbers(&found), numbers(expected), "{name}");
        }
        // Nothing follows the last tensor but its padding.
        let end =
            |info: &candle_core::quantized::gguf_file::TensorInfo| info.offset + 4 * info.shape.elem_count() as u64;
        let data = content.tensor_infos.values().map(end).max().unwrap();
        let end = content.tensor_data_offset + data;
        assert_eq!(bytes.len() as u64, end.next_multiple_of(32));
    }
}

#[test]
fn quantised_matrices_are_as_near_as_the_format_allows_and_norms_stay_exact() {
    for config in [tiny(), grouped(true)] {
        let weights = weights(&config);
        // Of a block's largest magnitude: half a step or, for the one integer that Q4_0 lacks on the positive side, a
        // whole one, and what an f16 scale adds.
        for (quant, dtype, bound) in [
            (Quant::F16, GgmlDType::F16, 1.0 / 2048.0),
            (Quant::Q8_0, GgmlDType::Q8_0, 0.57 / 127.0),
            (Quant::Q4_0, GgmlDType::Q4_0, 1.01 / 8.0),
        ] {
            let bytes = bytes(&weights, quant);
            let content = content(&bytes);
            let mut changed = false;
            for (name, hf) in names(&config) {
                let (found, stored_as) = stored(&content, &bytes, &name);
                let expected = weights.get(&hf).unwrap();
                assert_eq!(found.dims(), expected.dims(), "{name}");
                let (found, expected) = (numbers(&found), numbers(expected));
                if name.contains("norm") {
                    assert_eq!((stored_as, found), (GgmlDType::F32, expected), "{name}");
                    continue;
                }
                assert_eq!(stored_as, dtype, "{name}");
                changed |= found != expected;
                for (found, expected) in found.chunks(32).zip(expected.chunks(32)) {
                    let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                    for (found, expected) in found.iter().zip(expected) {
                        let error = (found - expected).abs();
                        assert!(error <= bound * largest, "{name} as {quant}: {expected} became {found}");
                    }
                }
            }
            assert!(changed, "{quant} rounds");
        }
    }
}

#[test]
fn rows_that_are_no_whole_blocks_fall_back_to_f16() {
    let config = ModelConfig {
        intermediate_size: 50,
        ..tiny()
    };
    let weights = weights(&config);
    let bytes = bytes(&weights, Quant::Q4_0);
    let content = content(&bytes);
    let dtype = |name: &str| content.tensor_infos[name].ggml_dtype;
    // Rows of `down` are 50 long, those of `up` 64.
    assert_eq!(dtype("blk.1.ffn_down.weight"), GgmlDType::F16);
    assert_eq!(dtype("blk.1.ffn_up.weight"), GgmlDType::Q4_0);
    let (found, _) = stored(&content, &bytes, "blk.1.ffn_down.weight");
    let expected = numbers(weights.get("model.layers.1.mlp.down_proj.weight").unwrap());
    for (found, expected) in numbers(&found).iter().zip(&expected) {
        assert!((found - expected).abs() <= expected.abs() / 2048.0 + f32::from_bits(0x3300_0000));
    }
}

#[test]
fn the_same_weights_make_the_same_file() {
    let weights = weights(&grouped(false));
    let directory = tempfile::tempdir().unwrap();
    for quant in Quant::ALL {
        let expected = bytes(&weights, quant);
        assert_eq!(bytes(&weights.copy().unwrap(), quant), expected);
        let path = directory.path().join("policy.gguf");
        gguf::save(&weights, &vocabulary(13), quant, WeightsVersion(7), &path).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            expected,
            "a file that was there is replaced"
        );
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_refused_leaves_the_file_that_was_there() {
    let weights = weights(&tiny());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.gguf");
    std::fs::write(&path, "before").unwrap();
    let save = |quant, size| gguf::save(&weights, &vocabulary(size), quant, WeightsVersion(0), &path).unwrap_err();
    let message = save(Quant::F32, 12).to_string();
    assert!(message.contains("12 tokens, the model 13"), "{message}");

    let down = weights.get("model.layers.1.mlp.down_proj.weight").unwrap();
    let set = |value: f32| {
        let mut numbers = numbers(down);
        numbers[5] = value;
        down.set(&Tensor::from_vec(numbers, down.dims(), &Device::Cpu).unwrap())
            .unwrap();
    };
    for quant in Quant::ALL {
        for value in [f32::NAN, f32::NEG_INFINITY] {
            set(value);
            let message = save(quant, 13).to_string();
            assert!(
                message.contains("`blk.1.ffn_down.weight`") && message.contains("element 5"),
                "{message}"
            );
        }
    }
    // Fits into f32 and into a block's scale, not into f16.
    set(-1e5);
    let message = error(&weights, Quant::F16).to_string();
    assert!(
        message.contains("-100000") && message.contains("f16 ends at 65504"),
        "{message}"
    );
    for quant in [Quant::F32, Quant::Q8_0, Quant::Q4_0] {
        bytes(&weights, quant);
    }
    set(1e6);
    assert!(matches!(error(&weights, Quant::Q4_0), GgufError::Range { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

    let nowhere = directory.path().join("absent/policy.gguf");
    let failed = gguf::save(&weights, &vocabulary(13), Quant::F32, WeightsVersion(0), &nowhere);
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("absent"), "{message}");
}

#[test]
fn a_vocabulary_names_every_token_once() {
    let new = |texts: &[&str], special| {
        let tokens = texts.iter().map(|text| ((*text).to_owned(), TokenKind::Word));
        Vocabulary::new(tokens, special)
    };
    let refused = |texts: &[&str], special| new(texts, special).unwrap_err();
    assert_eq!(
        refused(&["a", "b", "c", "b"], SPECIAL),
        VocabularyError::Duplicate {
            first: 1,
            second: 3,
            text: "b".into()
        }
    );
    for text in ["", "a\0"] {
        assert_eq!(
            refused(&["x", text, "z"], SPECIAL),
            VocabularyError::Unspellable { token: 1 }
        );
    }
    assert_eq!(
        refused(&["a", "b"], SPECIAL).to_string(),
        "`eos` is token 2, but there are only 2"
    );
    let words = new(&["a", "b", "ab"], SPECIAL).unwrap();
    let merged = words.clone().with_merges("qwen2", vec!["a b".into()]).unwrap();
    assert_eq!(words.fingerprint(), merged.fingerprint(), "of the texts alone");
    assert_ne!(
        words.fingerprint(),
        new(&["a", "ab", "b"], SPECIAL).unwrap().fingerprint()
    );
    for text in ["ab", "a  b", " b", "a b c", ""] {
        let failed = words.clone().with_merges("qwen2", vec!["a b".into(), text.into()]);
        let (index, text) = (1, text.to_owned());
        assert_eq!(failed, Err(VocabularyError::Merge { index, text }));
    }

    let weights = weights(&ModelConfig::tiny(3));
    let mut bytes = Vec::new();
    gguf::write(&weights, &merged, Quant::F32, WeightsVersion(0), &mut bytes).unwrap();
    let metadata = content(&bytes).metadata;
    assert_eq!(metadata["tokenizer.ggml.pre"].to_string().unwrap(), "qwen2");
    let merges = metadata["tokenizer.ggml.merges"].to_vec().unwrap();
    assert_eq!(merges[0].to_string().unwrap(), "a b");
}

#[test]
fn names_of_quantisations_read_back() {
    for quant in Quant::ALL {
        assert_eq!(quant.to_string().parse(), Ok(quant));
    }
    let error = "Q8_0".parse::<Quant>().unwrap_err().to_string();
    assert_eq!(error, "no quantisation \"Q8_0\": there are f32, f16, q8_0, q4_0");
}

/// The model that the tests of the llama.cpp backend sample, which may be built without Candle, and an adapter of it. `RAO_WRITE=1` writes them
/// anew.
#[test]
fn the_files_for_the_other_backends_tests_are_what_is_written_today() {
    let config = ModelConfig {
        hidden_size: 32,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 16,
        intermediate_size: 64,
        max_position_embeddings: 64,
        ..ModelConfig::tiny(70)
    };
    let weights = Weights::new(&config, 5, &Device::Cpu).unwrap();
    // Random weights say nearly the same of everything: larger ones have opinions.
    for (_, var) in weights.iter() {
        let larger = (var.as_tensor() * 4.0).unwrap();
        var.set(&larger).unwrap();
    }
    let model = bytes(&weights, Quant::F32);

    let numbers: Vec<f32> = (0..128).map(|at| (at * 37 % 64) as f32 / 64.0 - 0.5).collect();
    let tensors = ["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"].map(|module| AdapterTensor {
        module,
        a: &numbers[..64],
        b: if module.ends_with("up_proj") {
            &numbers
        } else {
            &numbers[..64]
        },
    });
    let vocabulary = vocabulary(70);
    let adapter = Adapter {
        tensors: &tensors,
        rank: 2,
        alpha: 4.0,
        version: WeightsVersion(8),
        fingerprint: Some(vocabulary.fingerprint()),
    };
    let mut written = Vec::new();
    gguf::write_adapter(&adapter, &config, Quant::F32, &mut written).unwrap();

    for (name, bytes) in [("tiny-f32.gguf", model), ("tiny-adapter.gguf", written)] {
        let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("RAO_WRITE").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{path} is another file");
    }
}
