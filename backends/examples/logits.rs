//! What a checkpoint says of some token sequences, as JSON for `tests/conformance/roundtrip.py --logits`:
//!
//! ```text
//! cargo run -p rao-backends --example logits -- DIR [ADAPTER_DIR] > logits.json
//! ```

use rao_backends::candle::{Adapter, Device, Qwen3, Weights};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, adapter) = match arguments.as_slice() {
        [model] => (model, None),
        [model, adapter] => (model, Some(adapter)),
        _ => return Err("usage: logits DIR [ADAPTER_DIR]".into()),
    };
    let weights = Weights::load(Path::new(model), &Device::Cpu)?;
    let config = weights.config().clone();
    let mut model = Qwen3::new(weights);
    if let Some(adapter) = adapter {
        model = model.with_adapter(Adapter::load(Path::new(adapter), &config, &Device::Cpu)?)?;
    }
    let mut sequences = Vec::new();
    for length in [1, 2, 17, 60] {
        // Any tokens will do, as long as they differ.
        let tokens: Vec<u32> = (0..length)
            .map(|at| (at * 37 + length) % config.vocab_size as u32)
            .collect();
        let logits = model.logits(&tokens)?;
        let rows: Vec<&[f32]> = logits.chunks(config.vocab_size).collect();
        sequences.push(serde_json::json!({ "tokens": tokens, "logits": rows }));
    }
    println!("{}", serde_json::json!({ "sequences": sequences }));
    Ok(())
}
