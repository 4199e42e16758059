//! [`Qwen3`]: log-probabilities of what was chosen, and gradients through them.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor, Var};
use rayon::prelude::*;

use super::adapter::Adapter;
use super::batch::{BatchError, Micro, PackedBatch, split};
use super::composite;
use super::config::ModelConfig;
use super::fused::{Fused, Workspace};
use super::loss::{Drawn, Objective, SequenceRatio, Tally};
use super::ops::Team;
use super::ops::head::{Choice, Choices};
use super::ops::projection::Weight;
use super::parts::{Parts, with_weights};
use super::weights::Weights;

/// Why a step or an evaluation failed. The weights are as before.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The batch is at fault.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A result that is infinite or no number.
    #[error("{what} is {value}")]
    NotFinite {
        /// Which result.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// A setting outside its range.
    #[error("{what} must be {range}, got {value}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What it may be.
        range: &'static str,
        /// The number.
        value: f64,
    },
    /// A tensor that no gradient reached: an operation on the way has none.
    #[error("no gradient reached `{tensor}`")]
    Detached {
        /// The tensor.
        tensor: String,
    },
    /// Weights of fewer bits, which one step of an optimiser would not move.
    #[error("weights in {dtype:?} do not learn: load them in f32, or train an adapter (LoRA) on them")]
    Frozen {
        /// What they are kept in.
        dtype: DType,
    },
    /// An adapter made for another shape.
    #[error("the adapter does not fit the model at `{tensor}`")]
    Adapter {
        /// The tensor.
        tensor: String,
    },
    /// Fused kernels asked for weights that are not in main memory.
    #[error("fused kernels need the CPU")]
    NotOnCpu,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

impl TrainError {
    /// [`TrainError::Setting`] unless `holds`.
    pub(crate) fn check(
        holds: bool,
        what: &'static str,
        range: &'static str,
        value: impl Into<f64>,
    ) -> Result<(), Self> {
        let value = value.into();
        if holds {
            Ok(())
        } else {
            Err(Self::Setting { what, range, value })
        }
    }
}

/// What computes the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Own kernels with hand-written backward passes. CPU only.
    Fused,
    /// Candle's operations and its differentiation. Any device.
    Composite,
}

/// Gradients of what learns: all weights in the order of [`ModelConfig::tensors`], or the adapter's factors in theirs.
#[derive(Debug)]
pub(crate) enum Gradients {
    /// One flat buffer in main memory.
    Flat(Vec<f32>),
    /// One tensor each, on the weights' device.
    Tensors(Vec<Tensor>),
}

/// A Qwen3 decoder that can be evaluated and differentiated on packed batches.
///
/// With fused kernels and less than 2^21 parameters, results are the same bits whatever the number of threads. Larger models share
/// single products out among threads: another number of them may change the last bits, the same number does not.
#[derive(Debug)]
pub struct Qwen3 {
    weights: Weights,
    adapter: Option<Adapter>,
    checkpoint: bool,
    pub(super) kernels: Kernels,
    micro_tokens: usize,
    spaces: Mutex<Vec<Workspace>>,
    buffers: Mutex<Vec<Vec<f32>>>,
}

/// Most partial sums of the gradient. More share the work out more evenly; each costs a buffer as large as the weights.
/// Independent of the number of threads, so that the order in which they are added is too.
const SHARDS_MAX: usize = 8;
/// What all partial sums together may take, in numbers (512 MiB). Beyond it the threads work inside each operation.
const SHARD_NUMBERS_MAX: usize = 1 << 27;
/// Smallest model whose single operations are worth sharing out: below it, waking a thread costs more than it saves. From here on the
/// number of threads may change the last bits of results, because a shared product is summed in another order.
const TEAM_PARAMETERS: usize = 1 << 21;
/// What the intermediates of one part should take, in bytes.
const PART_BYTES: usize = 3 << 19;
/// Bounds of the automatic part: fewer tokens waste the matrix kernels, more gain nothing.
const PART_TOKENS: (usize, usize) = (256, 1024);

impl Qwen3 {
    /// Fused kernels when the weights lie in main memory, Candle's operations elsewhere.
    #[must_use]
    pub fn new(weights: Weights) -> Self {
        let kernels = if weights.device().is_cpu() {
            Kernels::Fused
        } else {
            Kernels::Composite
        };
        let micro_tokens = if weights.device().is_cpu() {
            micro_tokens(weights.config())
        } else {
            MICRO_TOKENS_ON_DEVICE
        };
        Self {
            weights,
            adapter: None,
            checkpoint: false,
            kernels,
            micro_tokens,
            spaces: Mutex::default(),
            buffers: Mutex::default(),
        }
    }

    /// Chooses the kernels.
    ///
    /// # Errors
    /// [`TrainError::NotOnCpu`] when fused kernels cannot reach the weights.
    pub fn with_kernels(mut self, kernels: Kernels) -> Result<Self, TrainError> {
        if kernels == Kernels::Fused && !self.weights.device().is_cpu() {
            return Err(TrainError::NotOnCpu);
        }
        self.kernels = kernels;
        Ok(self)
    }

    /// Chooses how many tokens are computed at once (whole sequences, at least one). The default keeps the intermediates of a part
    /// in the cache; sums are formed part by part, so that another value changes results in their last bits.
    #[must_use]
    pub fn with_micro_tokens(mut self, micro_tokens: usize) -> Self {
        self.micro_tokens = micro_tokens.max(1);
        self
    }

    /// Keeps only what enters a block, and computes the block a second time on the way back: a third more arithmetic, and a fraction of the
    /// memory. Gradients are the same bits (Chen et al., arXiv 1604.06174).
    #[must_use]
    pub fn with_checkpointing(mut self, on: bool) -> Self {
        self.checkpoint = on;
        self
    }

    /// Lets an adapter learn instead of the weights, which may be kept in half precision then.
    ///
    /// # Errors
    /// [`TrainError::Adapter`] when it was made for another shape.
    pub fn with_adapter(mut self, adapter: Adapter) -> Result<Self, TrainError> {
        for (tensor, (name, shape)) in self.config().tensors().iter().enumerate() {
            if let Some([a, b]) = adapter.factors(tensor)
                && (a.dims().get(1), b.dims().first()) != (shape.get(1), shape.first())
            {
                return Err(TrainError::Adapter { tensor: name.clone() });
            }
        }
        self.adapter = Some(adapter);
        Ok(self)
    }

    /// What learns, if it is not the weights.
    #[must_use]
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Whether blocks are computed again on the way back.
    pub(crate) fn checkpoints(&self) -> bool {
        self.checkpoint
    }

    /// What a tensor of the model amounts to by its Hugging Face name, with what the adapter adds: f32, without a graph. `None` where the
    /// model has no such tensor.
    ///
    /// # Errors
    /// The device failed.
    pub fn effective(&self, name: &str) -> candle_core::Result<Option<Tensor>> {
        let Some(place) = self.weights.names().iter().position(|other| other == name) else {
            return Ok(None);
        };
        let base = self.weights.vars()[place].as_detached_tensor().to_dtype(DType::F32)?;
        match &self.adapter {
            Some(adapter) => adapter.applied(place, &base).map(Some),
            None => Ok(Some(base)),
        }
    }

    /// Names and tensors of what learns.
    pub(crate) fn trained(&self) -> (&[String], &[Var]) {
        match &self.adapter {
            Some(adapter) => (adapter.names(), adapter.vars()),
            None => (self.weights.names(), self.weights.vars()),
        }
    }

    /// How many numbers learn.
    #[must_use]
    pub fn trained_parameters(&self) -> usize {
        let count = |adapter: &Adapter| adapter.config().parameters(self.config());
        self.adapter.as_ref().map_or_else(|| self.config().parameters(), count)
    }

    /// The shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        self.weights.config()
    }

    /// The weights, which training changes in place.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Log-probabilities of all actions of the batch under the present weights, at the batch's temperature and masks.
    ///
    /// # Errors
    /// [`TrainError::Batch`], or the device failed.
    pub fn logprobs(&self, batch: &PackedBatch) -> Result<Vec<f32>, TrainError> {
        batch.validate(self.config())?;
        let parts = split(batch, self.micro_tokens, false);
        let results: Vec<Vec<f32>> = match self.kernels {
            Kernels::Fused => with_weights(&self.weights, self.adapter.as_ref(), |weights| {
                let (fused, outer) = self.fused(weights, parts.len());
                let run = |micro: &Micro| {
                    let mut logprobs = Vec::with_capacity(micro.targets.len());
                    let mut look = |_, choice: Choice| {
                        logprobs.push(choice.logprob);
                        0.0
                    };
                    let mut space = pop(&self.spaces);
                    fused.forward(micro, &mut space);
                    fused.look(choices(batch, micro), &mut space, &mut look);
                    push(&self.spaces, space);
                    logprobs
                };
                if outer {
                    parts.par_iter().map(run).collect()
                } else {
                    parts.iter().map(run).collect()
                }
            })?,
            Kernels::Composite => {
                let decoder = composite::Decoder::new(self, false);
                let run = |micro: &Micro| decoder.logprobs(micro, choices(batch, micro));
                parts.iter().map(run).collect::<Result<_, _>>()?
            }
        };
        Ok(results.concat())
    }

    /// Gradients of the objective over the whole batch. Hand them to [`AdamW::step`](super::AdamW::step); give a flat buffer
    /// back with [`recycle`](Self::recycle) to spare the next call its allocation.
    ///
    /// # Errors
    /// [`TrainError::Batch`], or the loss is not finite, or the device failed.
    pub(crate) fn gradients(
        &self,
        batch: &PackedBatch,
        objective: Objective,
    ) -> Result<(Tally, Gradients), TrainError> {
        batch.validate(self.config())?;
        if let Some(var) = self.trained().1.iter().find(|var| var.dtype() != DType::F32) {
            return Err(TrainError::Frozen { dtype: var.dtype() });
        }
        let parts = split(batch, self.micro_tokens, true);
        let (tally, gradients) = match self.kernels {
            Kernels::Fused => self.fused_gradients(batch, objective, &parts)?,
            Kernels::Composite => self.composite_gradients(batch, objective, &parts)?,
        };
        if tally.loss.is_finite() {
            Ok((tally, gradients))
        } else {
            Err(TrainError::NotFinite {
                what: "the loss",
                value: tally.loss,
            })
        }
    }

    /// Gives back the memory that is kept between updates.
    pub(crate) fn release(&self) {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes a gradient buffer back.
    pub(crate) fn recycle(&self, gradients: Gradients) {
        if let Gradients::Flat(buffer) = gradients {
            push(&self.buffers, buffer);
        }
    }

    /// How the work is shared out: whole parts side by side (`true`), or every operation among all threads.
    pub(super) fn fused<'a>(&'a self, weights: &'a Parts<Weight<'a>>, work_items: usize) -> (Fused<'a>, bool) {
        let threads = rayon::current_num_threads();
        let outer = threads > 1 && work_items >= threads;
        let team = if outer || self.config().parameters() < TEAM_PARAMETERS {
            Team::SERIAL
        } else {
            Team { threads }
        };
        (
            Fused {
                config: self.config(),
                weights,
                team,
                checkpoint: self.checkpoint,
            },
            outer,
        )
    }

    fn fused_gradients(
        &self,
        batch: &PackedBatch,
        objective: Objective,
        parts: &[Micro],
    ) -> Result<(Tally, Gradients), TrainError> {
        let config = self.config();
        let normaliser = batch.actions.len() as f64;
        let parameters = self.trained_parameters();
        let shards = shards(parameters, parts.len());
        let bound = |shard: usize| shard * parts.len() / shards;
        let shards: Vec<&[Micro]> = (0..shards)
            .map(|shard| &parts[bound(shard)..bound(shard + 1)])
            .collect();
        let sums: Vec<(Tally, Vec<f32>)> = with_weights(&self.weights, self.adapter.as_ref(), |weights| {
            let (fused, outer) = self.fused(weights, shards.len());
            let run = |shard: &&[Micro]| {
                let mut tally = Tally::default();
                let mut buffer: Vec<f32> = pop(&self.buffers);
                buffer.clear();
                buffer.resize(parameters, 0.0);
                let mut gradients = Parts::from_flat(config, self.adapter.as_ref(), &mut buffer);
                let mut space = pop(&self.spaces);
                for micro in *shard {
                    tally.tokens += micro.tokens.len() as u64;
                    fused.forward(micro, &mut space);
                    // The output layer alone is computed twice: a sequence's ratio needs the last of its actions before the first.
                    let ratios = objective.sequence_ratio().map(|ratio| {
                        let mut logprobs = Vec::with_capacity(micro.targets.len());
                        let mut look = |_, choice: Choice| {
                            logprobs.push(choice.logprob);
                            0.0
                        };
                        fused.look(choices(batch, micro), &mut space, &mut look);
                        sequence_ratios(ratio, batch, micro, &logprobs)
                    });
                    let mut slope = |row: usize, choice: Choice| {
                        let drawn = drawn(batch, micro, row, ratios.as_deref());
                        tally.record(objective, choice, drawn, normaliser)
                    };
                    fused.differentiate(micro, choices(batch, micro), &mut space, &mut slope, &mut gradients);
                }
                push(&self.spaces, space);
                (tally, buffer)
            };
            if outer {
                shards.par_iter().map(run).collect()
            } else {
                shards.iter().map(run).collect()
            }
        })?;
        let mut sums = sums.into_iter();
        let (mut tally, mut total) = sums.next().unwrap_or_else(|| (Tally::default(), vec![0.0; parameters]));
        for (part, buffer) in sums {
            tally.add(&part);
            add(&mut total, &buffer);
            push(&self.buffers, buffer);
        }
        Ok((tally, Gradients::Flat(total)))
    }

    fn composite_gradients(
        &self,
        batch: &PackedBatch,
        objective: Objective,
        parts: &[Micro],
    ) -> Result<(Tally, Gradients), TrainError> {
        let mut tally = Tally::default();
        let (names, vars) = self.trained();
        let mut total = vec![None; vars.len()];
        let decoder = composite::Decoder::new(self, true);
        for micro in parts {
            tally.tokens += micro.tokens.len() as u64;
            let mut ratios = None;
            if let Some(ratio) = objective.sequence_ratio() {
                // Everything is computed twice: a sequence's ratio needs the last of its actions before the first.
                let logprobs = decoder.logprobs(micro, choices(batch, micro))?;
                ratios = Some(sequence_ratios(ratio, batch, micro, &logprobs));
            }
            let mut slope = |row: usize, choice: Choice| {
                let drawn = drawn(batch, micro, row, ratios.as_deref());
                tally.record(objective, choice, drawn, batch.actions.len() as f64)
            };
            decoder.differentiate(micro, choices(batch, micro), &mut slope, &mut total)?;
        }
        let arrived = names
            .iter()
            .zip(vars)
            .zip(total)
            .map(|((name, var), total)| match total {
                Some(gradient) => Ok(gradient),
                None if parts.is_empty() => Ok(var.zeros_like()?),
                None => Err(TrainError::Detached { tensor: name.clone() }),
            });
        let gradients = arrived.collect::<Result<_, _>>()?;
        Ok((tally, Gradients::Tensors(gradients)))
    }
}

/// The part of the batch's choices that belongs to one part.
fn choices<'a>(batch: &'a PackedBatch, micro: &'a Micro) -> Choices<'a> {
    let words = batch.mask_words;
    Choices {
        targets: &micro.targets,
        masks: &batch.masks[micro.actions.start * words..micro.actions.end * words],
        words,
        temperature: batch.temperature,
    }
}

/// What is known of an action of the part, by its index there.
fn drawn(batch: &PackedBatch, micro: &Micro, row: usize, sequence_ratios: Option<&[f32]>) -> Drawn {
    let action = micro.actions.start + row;
    Drawn {
        behaviour_logprob: batch.behaviour_logprobs[action],
        weight: batch.weights[action],
        sequence_ratio: sequence_ratios.map(|ratios| ratios[row]),
    }
}

/// By action of the part, the ratio of the sequence it belongs to. Parts hold whole sequences.
fn sequence_ratios(ratio: SequenceRatio, batch: &PackedBatch, micro: &Micro, logprobs: &[f32]) -> Vec<f32> {
    let behaviour = &batch.behaviour_logprobs[micro.actions.clone()];
    let mut ratios = Vec::with_capacity(logprobs.len());
    for actions in micro.sequences() {
        let of = ratio.of(&logprobs[actions.clone()], &behaviour[actions.clone()]);
        ratios.resize(actions.end, of);
    }
    ratios
}

/// Partial sums of the gradient of so many numbers, for so many parts.
pub(crate) fn shards(parameters: usize, parts: usize) -> usize {
    SHARDS_MAX.min(SHARD_NUMBERS_MAX / parameters.max(1)).min(parts).max(1)
}

/// On a device, whatever the model: a kernel costs what its launch costs until it has thousands of tokens. Measured on an H200: 5M parameters
/// train 5.6 times as fast as with the parts that suit a CPU's cache.
const MICRO_TOKENS_ON_DEVICE: usize = 8192;

/// How many tokens keep the intermediates of a part near [`PART_BYTES`].
pub(crate) fn micro_tokens(config: &ModelConfig) -> usize {
    let (h, q, k, f) = (
        config.hidden_size,
        config.query_width(),
        config.key_width(),
        config.intermediate_size,
    );
    let layer = 4 * h + 3 * q + 4 * k + 2 * f;
    let (least, most) = PART_TOKENS;
    (PART_BYTES / (config.num_hidden_layers * layer * size_of::<f32>())).clamp(least, most)
}

/// `to += from`, on all threads when it is worth it.
fn add(to: &mut [f32], from: &[f32]) {
    const BLOCK: usize = 1 << 15;
    to.par_chunks_mut(BLOCK)
        .zip(from.par_chunks(BLOCK))
        .for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}

fn pop<T: Default>(pool: &Mutex<Vec<T>>) -> T {
    pool.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop()
        .unwrap_or_default()
}

fn push<T>(pool: &Mutex<Vec<T>>, item: T) {
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(item);
}
