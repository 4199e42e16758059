//! The file, read back with Candle's own reader.

use super::{Numbers, shape};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use rao_backends::candle::Device;
use rao_backends::candle::gguf::{self, Adapter, AdapterTensor, GgufError, Quant};
use std::collections::BTreeSet;
use std::io::Cursor;

fn written(adapter: &Adapter<'_>, quant: Quant, tied: bool) -> Result<Vec<u8>, GgufError> {
    let mut bytes = Vec::new();
    gguf::write_adapter(adapter, &shape(tied), quant, &mut bytes).map(|()| bytes)
}

/// From llama.cpp's documentation rather than from the code under test.
fn gguf_name(module: &str) -> String {
    let name = module
        .replace("model.layers.", "blk.")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.", "attn_")
        .replace("mlp.", "ffn_")
        .replace("_proj", "")
        .replace("lm_head", "output");
    format!("{name}.weight")
}

#[test]
fn every_key_and_every_number_is_there() {
    for (tied, matrices) in [(false, 15), (true, 14)] {
        let numbers = Numbers::new(&shape(tied), 3, 1, 0.5);
        assert_eq!(numbers.parts.len(), matrices);
        let tensors = numbers.tensors();
        for (quant, stored_as, file_type) in [(Quant::F32, GgmlDType::F32, 0), (Quant::F16, GgmlDType::F16, 1)] {
            let bytes = written(&numbers.adapter(&tensors, Some("0123456789abcdef")), quant, tied).unwrap();
            let content = Content::read(&mut Cursor::new(&bytes)).unwrap();
            let expected = [
                ("general.type", Value::String("adapter".into())),
                ("general.architecture", Value::String("qwen3".into())),
                ("general.name", Value::String("rao policy".into())),
                ("general.file_type", Value::U32(file_type)),
                ("adapter.type", Value::String("lora".into())),
                ("adapter.lora.alpha", Value::F32(6.0)),
                ("rao.vocabulary", Value::String("0123456789abcdef".into())),
                ("rao.weights_version", Value::U64(7)),
            ];
            assert_eq!(content.metadata.len(), expected.len());
            for (key, value) in expected {
                assert_eq!(format!("{:?}", content.metadata[key]), format!("{value:?}"), "{key}");
            }
            let mut names = BTreeSet::new();
            for (module, a, b) in &numbers.parts {
                for (suffix, expected) in [("lora_a", a), ("lora_b", b)] {
                    let name = format!("{}.{suffix}", gguf_name(module));
                    let tensor = content.tensor(&mut Cursor::new(&bytes), &name, &Device::Cpu).unwrap();
                    assert_eq!(tensor.dtype(), stored_as, "{name}");
                    let tensor = tensor.dequantize(&Device::Cpu).unwrap();
                    let rank = if suffix == "lora_a" {
                        tensor.dims()[0]
                    } else {
                        tensor.dims()[1]
                    };
                    assert_eq!(rank, 3, "{name}");
                    let found: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                    let exact = quant == Quant::F32;
                    let close = |(x, y): (&f32, &f32)| if exact { x == y } else { (x - y).abs() < 3e-4 };
                    assert!(
                        found.len() == expected.len() && found.iter().zip(expected).all(close),
                        "{name}"
                    );
                    names.insert(name);
                }
            }
            assert_eq!(content.tensor_infos.keys().cloned().collect::<BTreeSet<_>>(), names);
        }
    }
}

#[test]
fn the_same_adapter_gives_the_same_bytes_and_no_fingerprint_is_none() {
    let numbers = Numbers::new(&shape(false), 2, 1, 0.5);
    let tensors = numbers.tensors();
    let bytes = || written(&numbers.adapter(&tensors, None), Quant::F32, false).unwrap();
    assert!(bytes() == bytes());
    let content = Content::read(&mut Cursor::new(bytes())).unwrap();
    assert!(!content.metadata.contains_key("rao.vocabulary"));
}

#[test]
fn what_a_reader_would_refuse_or_misread_is_not_written() {
    let numbers = Numbers::new(&shape(false), 2, 1, 0.5);
    let tensors = numbers.tensors();
    let sound = numbers.adapter(&tensors, None);
    let refused = |adapter: &Adapter<'_>, quant, tied| written(adapter, quant, tied).unwrap_err().to_string();
    for alpha in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let message = refused(&Adapter { alpha, ..sound }, Quant::F32, false);
        assert!(message.contains("alpha"), "{message}");
    }
    for nothing in [Adapter { rank: 0, ..sound }, Adapter { tensors: &[], ..sound }] {
        let message = refused(&nothing, Quant::F32, false);
        assert!(message.contains("changes nothing"), "{message}");
    }
    for quant in [Quant::Q8_0, Quant::Q4_0] {
        let message = refused(&sound, quant, false);
        assert!(
            message.contains(&quant.to_string()) && message.contains("f16"),
            "{message}"
        );
    }
    // A tied output layer is the embedding, which cannot be adapted.
    let message = refused(&sound, Quant::F32, true);
    assert!(message.contains("`lm_head`"), "{message}");
    let one = tensors[0];
    for module in [
        "model.embed_tokens",
        "model.norm",
        "model.layers.2.mlp.up_proj",
        "model.layers.0.mlp.up_proj.weight",
        "",
    ] {
        let message = refused(
            &Adapter {
                tensors: &[AdapterTensor { module, ..one }],
                ..sound
            },
            Quant::F32,
            false,
        );
        assert!(
            message.contains(&format!("`{module}`")) && message.contains("no such matrix"),
            "{message}"
        );
    }
    let message = refused(
        &Adapter {
            tensors: &[one, one],
            ..sound
        },
        Quant::F32,
        false,
    );
    assert!(message.contains("twice"), "{message}");
    let short = AdapterTensor { b: &one.b[1..], ..one };
    let message = refused(
        &Adapter {
            tensors: &[short],
            ..sound
        },
        Quant::F32,
        false,
    );
    assert!(
        message.contains("lora_b has 127 numbers where [64, 2] are needed"),
        "{message}"
    );
    // Rank and numbers disagree.
    let message = refused(&Adapter { rank: 4, ..sound }, Quant::F32, false);
    assert!(message.contains("lora_a"), "{message}");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("adapter.gguf");
    let mut numbers = Numbers::new(&shape(false), 2, 1, 0.5);
    let tensors = numbers.tensors();
    let adapter = numbers.adapter(&tensors, None);
    gguf::save_adapter(&adapter, &shape(false), Quant::F32, &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(before == written(&adapter, Quant::F32, false).unwrap());
    for (value, quant) in [(f32::NAN, Quant::F32), (f32::INFINITY, Quant::F16), (1e6, Quant::F16)] {
        numbers.parts[4].2[3] = value;
        let tensors = numbers.tensors();
        let error = gguf::save_adapter(&numbers.adapter(&tensors, None), &shape(false), quant, &path).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("`blk.0.ffn_gate.weight.lora_b`"), "{message}");
        assert!(std::fs::read(&path).unwrap() == before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let nowhere = directory.path().join("absent/adapter.gguf");
    let tensors = [tensors_of_one(&numbers)];
    let failed = gguf::save_adapter(&numbers.adapter(&tensors, None), &shape(false), Quant::F32, &nowhere);
    assert!(failed.unwrap_err().to_string().contains("absent"));
}

/// A part without broken numbers.
fn tensors_of_one(numbers: &Numbers) -> AdapterTensor<'_> {
    numbers.tensors()[0]
}
