//! Weights in memory, and what the tests of files share.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{EMBEDDING, HEAD, INDEX_FILE, WEIGHTS_FILE, Weights, WeightsError};
use crate::candle::ModelConfig;

const NORM: &str = "model.norm.weight";

/// Small enough to be cut at every byte.
fn small(tied: bool) -> Weights {
    let config = ModelConfig {
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        intermediate_size: 6,
        vocab_size: 5,
        tie_word_embeddings: tied,
        ..ModelConfig::tiny(5)
    };
    Weights::new(&config, 7, &Device::Cpu).unwrap()
}

/// The tensors of one file, by name: type, shape, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name.to_owned(), tensor)
    });
    tensors.collect()
}

fn put(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.as_str(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Names of all files in a directory.
fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn load(dir: &Path) -> Result<Weights, WeightsError> {
    Weights::load(dir, &Device::Cpu)
}

/// That loading fails, and says all of this.
#[track_caller]
fn assert_refused(dir: &Path, parts: &[&str]) {
    let message = load(dir).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn the_seed_decides_every_bit() {
    let new = |seed| Weights::new(&ModelConfig::tiny(13), seed, &Device::Cpu).unwrap();
    let numbers = new(7).to_vec().unwrap();
    assert_eq!(numbers, new(7).to_vec().unwrap());
    assert_ne!(numbers, new(8).to_vec().unwrap());
    let weights = new(7);
    let q = weights.get("model.layers.0.self_attn.q_proj.weight").unwrap();
    let q = q.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let std = (q.iter().map(|x| x * x).sum::<f32>() / q.len() as f32).sqrt();
    assert!((std - 0.08).abs() < 0.004, "{std}");
}

#[test]
fn a_copy_does_not_share() {
    let weights = small(false);
    let copy = weights.copy().unwrap();
    let norm = weights.get(NORM).unwrap();
    norm.set(&norm.zeros_like().unwrap()).unwrap();
    assert_eq!(copy.to_vec().unwrap(), small(false).to_vec().unwrap());
}
