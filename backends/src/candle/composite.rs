//! The decoder as a graph of Candle operations: for devices without fused kernels, and the yardstick of those that have them.

use candle_core::{Device, Result, Tensor};

use super::batch::Micro;
use super::config::ModelConfig;
use super::ops::attention::{self, Padding};
use super::ops::head::{self, Choices};
use super::ops::{rms_norm, rope, swiglu};
use super::parts::{LayerParts, Parts};
use super::weights::Weights;

/// Log-probabilities `[actions]`, differentiable, and entropies `[actions]`, not.
pub(crate) fn choices(weights: &Weights, micro: &Micro, choices: Choices<'_>) -> Result<(Tensor, Tensor)> {
    let (config, device, rows) = (weights.config(), weights.device(), micro.rows.len());
    let (hidden, weight) = hidden(weights, micro)?;
    let targets = Tensor::from_slice(choices.targets, rows, device)?;
    let bias = head::bias(choices, config.vocab_size, device)?;
    head::composite(
        &hidden,
        &weight,
        &targets,
        bias.as_ref(),
        f64::from(choices.temperature),
    )
}

/// What the output layer reads, `[actions, hidden]`, and its matrix `[vocab, hidden]`; both differentiable.
pub(crate) fn hidden(weights: &Weights, micro: &Micro) -> Result<(Tensor, Tensor)> {
    let (config, device) = (weights.config(), weights.device());
    let tensors = weights.vars().iter().map(|var| var.as_tensor().clone());
    let w = Parts::from_ordered(config, tensors);
    let (tokens, rows) = (micro.tokens.len(), micro.rows.len());
    let graph = Graph::new(config, micro, device)?;
    let mut x = w
        .embed
        .index_select(&Tensor::from_slice(&micro.tokens, tokens, device)?, 0)?;
    for layer in &w.layers {
        x = graph.layer(layer, &x)?;
    }
    let wanted: Vec<u32> = micro.rows.iter().map(|row| *row as u32).collect();
    let x = x.index_select(&Tensor::from_vec(wanted, rows, device)?, 0)?;
    let hidden = rms_norm::composite(&x, &w.norm, config.rms_norm_eps)?;
    Ok((hidden, w.head.unwrap_or(w.embed)))
}

struct Graph<'a> {
    config: &'a ModelConfig,
    cos: Tensor,
    sin: Tensor,
    padding: Padding,
}

impl<'a> Graph<'a> {
    fn new(config: &'a ModelConfig, micro: &Micro, device: &Device) -> Result<Self> {
        let (n, dim) = (micro.tokens.len(), config.head_dim);
        let mut angles = rope::Angles::default();
        angles.reach(
            micro.positions.iter().max().map_or(0, |last| *last as usize + 1),
            dim,
            config.rope_theta,
        );
        let rows: Vec<f32> = micro
            .positions
            .iter()
            .flat_map(|&p| &angles.rows()[p as usize * dim..][..dim])
            .copied()
            .collect();
        let rows = Tensor::from_vec(rows, (n, 1, dim), device)?;
        Ok(Self {
            config,
            cos: rows.narrow(2, 0, dim / 2)?,
            sin: rows.narrow(2, dim / 2, dim / 2)?,
            padding: Padding::new(&micro.offsets, device)?,
        })
    }

    fn layer(&self, w: &LayerParts<Tensor>, x: &Tensor) -> Result<Tensor> {
        let (config, n) = (self.config, x.dim(0)?);
        let (query, key, dim, eps) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.rms_norm_eps,
        );
        let normed = rms_norm::composite(x, &w.input_norm, eps)?;
        let project = |weight: &Tensor, heads: usize| normed.matmul(&weight.t()?)?.reshape((n, heads, dim));
        let q = rope::composite(&project(&w.q, query)?, &w.q_norm, eps, &self.cos, &self.sin)?;
        let k = rope::composite(&project(&w.k, key)?, &w.k_norm, eps, &self.cos, &self.sin)?;
        let attended = attention::composite(&q, &k, &project(&w.v, key)?, &self.padding)?;
        let x = (x + attended.matmul(&w.o.t()?)?)?;
        let normed = rms_norm::composite(&x, &w.post_norm, eps)?;
        let activation = swiglu::composite(&normed.matmul(&w.gate.t()?)?, &normed.matmul(&w.up.t()?)?)?;
        x + activation.matmul(&w.down.t()?)?
    }
}
