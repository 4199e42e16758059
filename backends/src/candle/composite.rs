//! The decoder as a graph of Candle operations: for devices without fused kernels, and the yardstick of those that have them.
//!
//! The way back is taken in segments of blocks, and the output layer in chunks of rows, so that neither the logits of a whole batch nor,
//! with checkpointing, the intermediates of more than one block exist at the same time.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};

use super::batch::Micro;
use super::config::ModelConfig;
use super::model::Qwen3;
use super::ops::attention::{self, Padding};
use super::ops::head::{self, Choice, Choices};
use super::ops::projection::{self, TensorWeight};
use super::ops::{rms_norm, rope, swiglu};
use super::parts::{LayerParts, Parts};

/// Logits that exist at the same time, in numbers (256 MiB).
const LOGITS: usize = 1 << 26;

/// Gradients of what learns, in its order; `None` where none has arrived yet.
pub(crate) type Gathered = [Option<Tensor>];

/// A model's tensors by role.
pub(crate) struct Decoder<'a> {
    model: &'a Qwen3,
    weights: Parts<TensorWeight>,
    /// What learns, in the order of its gradients.
    trained: &'a [Var],
}

impl<'a> Decoder<'a> {
    /// With `tracked`, what learns keeps a graph.
    pub(crate) fn new(model: &'a Qwen3, tracked: bool) -> Self {
        let learns = |var: &Var| {
            if tracked {
                var.as_tensor().clone()
            } else {
                var.as_detached_tensor()
            }
        };
        let list = model.weights().vars().iter().enumerate().map(|(tensor, var)| {
            let Some(adapter) = model.adapter() else {
                return TensorWeight {
                    base: learns(var),
                    low_rank: None,
                };
            };
            TensorWeight {
                base: var.as_detached_tensor(),
                low_rank: adapter
                    .factors(tensor)
                    .map(|[a, b]| (learns(a), learns(b), adapter.config().scale())),
            }
        });
        Self {
            model,
            weights: Parts::from_ordered(model.config(), list),
            trained: model.trained().1,
        }
    }

    /// What the output layer reads, `[rows, h]`, without a graph.
    fn hidden(&self, micro: &Micro) -> Result<Tensor> {
        let graph = Graph::new(self.model.config(), micro, self.model.weights().device())?;
        let mut x = self.embed(micro)?;
        for layer in &self.weights.layers {
            x = graph.layer(layer, &x)?.detach();
        }
        Ok(self.last(micro, &x)?.detach())
    }

    /// Logits `[rows, vocab]`, row by row.
    pub(crate) fn logits(&self, micro: &Micro) -> Result<Vec<f32>> {
        let weight = self.weights.head.as_ref().unwrap_or(&self.weights.embed);
        projection::composite(&self.hidden(micro)?, weight)?
            .flatten_all()?
            .to_vec1()
    }

    /// Log-probabilities `[actions]`.
    pub(crate) fn logprobs(&self, micro: &Micro, choices: Choices<'_>) -> Result<Vec<f32>> {
        let hidden = self.hidden(micro)?;
        let mut logprobs = Vec::with_capacity(micro.targets.len());
        for (first, rows) in self.chunks(micro) {
            let choice = self.choose(&hidden.narrow(0, first, rows)?, cut(choices, first, rows))?;
            logprobs.extend(choice.0.to_vec1::<f32>()?);
        }
        Ok(logprobs)
    }

    /// Asks `slope` of every action how the loss changes with its log-probability, in order, and adds the gradients of what learns to
    /// `total`, which is in its order.
    pub(crate) fn differentiate(
        &self,
        micro: &Micro,
        choices: Choices<'_>,
        slope: &mut dyn FnMut(usize, Choice) -> f32,
        total: &mut Gathered,
    ) -> Result<()> {
        let (config, device) = (self.model.config(), self.model.weights().device());
        let graph = Graph::new(config, micro, device)?;
        // With checkpointing a segment is a block, else it is all of them.
        let layers = self.weights.layers.len();
        let length = if self.model.checkpoints() { 1 } else { layers };
        let segments: Vec<&[LayerParts<TensorWeight>]> = self.weights.layers.chunks(length).collect();
        let run = |segment: &[LayerParts<TensorWeight>], x: &Tensor| {
            segment.iter().try_fold(x.clone(), |x, layer| graph.layer(layer, &x))
        };
        // What enters each segment; the last segment keeps its graph, because the way back begins there.
        let mut inputs = vec![Var::from_tensor(&self.embed(micro)?.detach())?];
        for segment in &segments[..segments.len() - 1] {
            let x = inputs[inputs.len() - 1].as_detached_tensor();
            inputs.push(Var::from_tensor(&run(segment, &x)?.detach())?);
        }
        let mut output = run(segments[segments.len() - 1], inputs[segments.len() - 1].as_tensor())?;

        let left = Var::from_tensor(&output.detach())?;
        let hidden = self.last(micro, left.as_tensor())?;
        let slope_hidden = self.differentiate_head(micro, choices, &hidden.detach(), slope, total)?;
        let gradients = self.back(&hidden, &slope_hidden, total)?;
        let mut above = taken(&gradients, &left)?;
        for segment in (0..segments.len()).rev() {
            if segment + 1 < segments.len() {
                output = run(segments[segment], inputs[segment].as_tensor())?;
            }
            let gradients = self.back(&output, &above, total)?;
            above = taken(&gradients, &inputs[segment])?;
        }
        if self.model.adapter().is_none() {
            let tokens = Tensor::from_slice(&micro.tokens, micro.tokens.len(), device)?;
            let zeros = self.weights.embed.base.zeros_like()?;
            add(&mut total[0], &zeros.index_add(&tokens, &above, 0)?)?;
        }
        Ok(())
    }

    /// The gradient `[rows, h]` of what the output layer reads.
    fn differentiate_head(
        &self,
        micro: &Micro,
        choices: Choices<'_>,
        hidden: &Tensor,
        slope: &mut dyn FnMut(usize, Choice) -> f32,
        total: &mut Gathered,
    ) -> Result<Tensor> {
        let mut parts = Vec::new();
        for (first, rows) in self.chunks(micro) {
            let chunk = Var::from_tensor(&hidden.narrow(0, first, rows)?.contiguous()?)?;
            let (logprobs, entropies) = self.choose(chunk.as_tensor(), cut(choices, first, rows))?;
            let values = logprobs.to_vec1::<f32>()?.into_iter().zip(entropies.to_vec1::<f32>()?);
            let slopes: Vec<f32> = values
                .enumerate()
                .map(|(row, (logprob, entropy))| slope(first + row, Choice { logprob, entropy }))
                .collect();
            let slopes = Tensor::from_vec(slopes, rows, hidden.device())?;
            let gradients = self.back(&logprobs, &slopes, total)?;
            parts.push(taken(&gradients, &chunk)?);
        }
        Tensor::cat(&parts, 0)
    }

    /// Goes back from `output`, whose gradient is `above`, and adds what reaches the trained tensors to `total`.
    fn back(&self, output: &Tensor, above: &Tensor, total: &mut Gathered) -> Result<GradStore> {
        let gradients = (output * above)?.sum_all()?.backward()?;
        for (var, total) in self.trained.iter().zip(total) {
            if let Some(part) = gradients.get(var) {
                add(total, part)?;
            }
        }
        Ok(gradients)
    }

    fn embed(&self, micro: &Micro) -> Result<Tensor> {
        let embed = self.weights.embed.base.detach();
        let tokens = Tensor::from_slice(&micro.tokens, micro.tokens.len(), embed.device())?;
        embed.index_select(&tokens, 0)?.to_dtype(candle_core::DType::F32)
    }

    /// What the output layer reads, of the rows that an action follows.
    fn last(&self, micro: &Micro, x: &Tensor) -> Result<Tensor> {
        let wanted: Vec<u32> = micro.rows.iter().map(|row| *row as u32).collect();
        let x = x.index_select(&Tensor::from_vec(wanted, micro.rows.len(), x.device())?, 0)?;
        rms_norm::composite(&x, &self.weights.norm.base, self.model.config().rms_norm_eps)
    }

    /// Log-probabilities `[rows]`, differentiable, and entropies `[rows]`, not.
    fn choose(&self, hidden: &Tensor, choices: Choices<'_>) -> Result<(Tensor, Tensor)> {
        let vocab = self.model.config().vocab_size;
        let targets = Tensor::from_slice(choices.targets, choices.targets.len(), hidden.device())?;
        let bias = head::bias(choices, vocab, hidden.device())?;
        let weight = self.weights.head.as_ref().unwrap_or(&self.weights.embed);
        let logits = projection::composite(hidden, weight)?;
        head::composite(&logits, &targets, bias.as_ref(), f64::from(choices.temperature))
    }

    /// First row and number of rows of every chunk of the output layer.
    fn chunks(&self, micro: &Micro) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, step) = (micro.rows.len(), (LOGITS / self.model.config().vocab_size).max(1));
        (0..rows)
            .step_by(step)
            .map(move |first| (first, step.min(rows - first)))
    }
}

fn add(total: &mut Option<Tensor>, part: &Tensor) -> Result<()> {
    *total = Some(match total.take() {
        Some(sum) => (sum + part)?.detach(),
        None => part.detach(),
    });
    Ok(())
}

/// The gradient of a leaf that the output depends on.
fn taken(gradients: &GradStore, leaf: &Var) -> Result<Tensor> {
    match gradients.get(leaf) {
        Some(gradient) => Ok(gradient.detach()),
        None => candle_core::bail!("an operation on the way back has no gradient"),
    }
}

/// Some of the rows.
fn cut(choices: Choices<'_>, first: usize, rows: usize) -> Choices<'_> {
    let words = choices.words;
    Choices {
        targets: &choices.targets[first..first + rows],
        masks: &choices.masks[first * words..(first + rows) * words],
        ..choices
    }
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
            config,
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

    fn layer(&self, w: &LayerParts<TensorWeight>, x: &Tensor) -> Result<Tensor> {
        let (config, n) = (self.config, x.dim(0)?);
        let (query, key, dim, eps) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.rms_norm_eps,
        );
        let normed = rms_norm::composite(x, &w.input_norm.base, eps)?;
        let project = |weight, heads: usize| projection::composite(&normed, weight)?.reshape((n, heads, dim));
        let q = rope::composite(&project(&w.q, query)?, &w.q_norm.base, eps, &self.cos, &self.sin)?;
        let k = rope::composite(&project(&w.k, key)?, &w.k_norm.base, eps, &self.cos, &self.sin)?;
        let attended = attention::composite(&q, &k, &project(&w.v, key)?, &self.padding)?;
        let x = (x + projection::composite(&attended, &w.o)?)?;
        let normed = rms_norm::composite(&x, &w.post_norm.base, eps)?;
        let gate = projection::composite(&normed, &w.gate)?;
        let activation = swiglu::composite(&gate, &projection::composite(&normed, &w.up)?)?;
        x + projection::composite(&activation, &w.down)?
    }
}
