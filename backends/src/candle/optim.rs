//! [`AdamW`] with clipping by the global norm.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};
use rayon::prelude::*;

use super::model::{Gradients, TrainError};
use super::ops::simd::{dot, simd_fn};

mod file;

/// Constants of [`AdamW`]; the learning rate is given with every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment, 0 to below 1.
    pub beta1: f64,
    /// Decay of the second moment, 0 to below 1.
    pub beta2: f64,
    /// Added to the root of the second moment; above 0.
    pub eps: f64,
    /// Share of a matrix that decays per unit of learning rate, at least 0. Norm gains do not decay.
    pub weight_decay: f64,
    /// The gradient's global norm is scaled down to this, above 0; infinity leaves it alone.
    pub clip_norm: f64,
}

impl Default for AdamWConfig {
    /// The constants of the RAO authors (arXiv 2605.06639, their code): betas 0.9 and 0.95, decay 0.017, clip 1.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.017,
            clip_norm: 1.0,
        }
    }
}

impl AdamWConfig {
    /// Checks every constant, as the single-precision number that the step computes with.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the first that is outside its range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let f32_of = |value: f64| value as f32;
        for (what, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            let holds = beta >= 0.0 && f32_of(beta) < 1.0;
            TrainError::check(holds, what, "at least 0 and below 1", beta)?;
        }
        let eps = f32_of(self.eps);
        TrainError::check(eps.is_finite() && eps > 0.0, "eps", "finite and above 0", self.eps)?;
        let decay = self.weight_decay;
        let holds = decay.is_finite() && decay >= 0.0;
        TrainError::check(holds, "weight_decay", "finite and not below 0", decay)?;
        TrainError::check(self.clip_norm > 0.0, "clip_norm", "above 0", self.clip_norm)
    }
}

/// The optimiser of a [`Learner`](super::Learner): AdamW (Loshchilov and Hutter, arXiv 1711.05101) as PyTorch computes it: decoupled decay, bias correction, moments in f32.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Name and shape of what learns.
    tensors: Vec<(String, Vec<usize>)>,
    steps: u64,
    moments: Moments,
}

/// First and second moments: beside the gradients they are made from.
#[derive(Debug)]
enum Moments {
    Flat { first: Vec<f32>, second: Vec<f32> },
    Tensors(Vec<[Tensor; 2]>),
}

impl AdamW {
    /// An optimiser that has seen nothing yet.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a constant outside its range, or the device is out of memory.
    pub(crate) fn new((names, vars): (&[String], &[Var]), config: AdamWConfig) -> Result<Self, TrainError> {
        config.validate()?;
        let moments = if vars.iter().all(|var| var.device().is_cpu()) {
            let count = vars.iter().map(|var| var.elem_count()).sum();
            Moments::Flat {
                first: vec![0.0; count],
                second: vec![0.0; count],
            }
        } else {
            let zeros = |var: &Var| Ok([var.zeros_like()?, var.zeros_like()?]);
            Moments::Tensors(vars.iter().map(zeros).collect::<candle_core::Result<_>>()?)
        };
        Ok(Self {
            config,
            tensors: names
                .iter()
                .zip(vars)
                .map(|(name, var)| (name.clone(), var.dims().to_vec()))
                .collect(),
            steps: 0,
            moments,
        })
    }

    /// Its constants.
    #[must_use]
    pub fn config(&self) -> AdamWConfig {
        self.config
    }

    /// Steps done.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves what learns once, and returns the gradient's global norm before clipping. The learning rate is finite and not below 0.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for a gradient with an infinite norm or none; weights and moments are as before.
    pub(crate) fn step(&mut self, vars: &[Var], gradients: &Gradients, lr: f64) -> Result<f64, TrainError> {
        let norm = self.norm(gradients)?;
        if !norm.is_finite() {
            return Err(TrainError::NotFinite {
                what: "the gradient's norm",
                value: norm,
            });
        }
        // The small term is PyTorch's.
        let clip = (self.config.clip_norm / (norm + 1e-6)).min(1.0);
        let step = self.steps + 1;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let rule = Rule {
            clip: clip as f32,
            beta1: self.config.beta1 as f32,
            beta2: self.config.beta2 as f32,
            eps: self.config.eps as f32,
            rate: (lr / correction(self.config.beta1)) as f32,
            second_scale: (1.0 / correction(self.config.beta2).sqrt()) as f32,
            keep: 1.0,
        };
        let decayed = (1.0 - lr * self.config.weight_decay) as f32;
        let rule_of = |var: &Var| Rule {
            keep: if var.dims().len() > 1 { decayed } else { 1.0 },
            ..rule
        };
        match (&mut self.moments, gradients) {
            (Moments::Flat { first, second }, Gradients::Flat(gradient)) => {
                let (mut first, mut second, mut gradient) = (&mut first[..], &mut second[..], &gradient[..]);
                for var in vars {
                    let count = var.elem_count();
                    let (here, rest) = gradient.split_at(count);
                    gradient = rest;
                    let (m, rest) = std::mem::take(&mut first).split_at_mut(count);
                    first = rest;
                    let (v, rest) = std::mem::take(&mut second).split_at_mut(count);
                    second = rest;
                    var.inplace_op1(&Update {
                        rule: rule_of(var),
                        gradient: here,
                        moments: RefCell::new((m, v)),
                    })?;
                }
            }
            (Moments::Flat { first, second }, Gradients::Tensors(gradients)) => {
                let mut at = 0;
                for (var, gradient) in vars.iter().zip(gradients) {
                    let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                    let range = at..at + gradient.len();
                    at = range.end;
                    let moments = RefCell::new((&mut first[range.clone()], &mut second[range]));
                    var.inplace_op1(&Update {
                        rule: rule_of(var),
                        gradient: &gradient,
                        moments,
                    })?;
                }
            }
            (Moments::Tensors(moments), Gradients::Tensors(gradients)) => {
                for ((var, gradient), moments) in vars.iter().zip(gradients).zip(moments) {
                    rule_of(var).apply_tensors(var, gradient, moments)?;
                }
            }
            (Moments::Tensors(_), Gradients::Flat(_)) => return Err(TrainError::NotOnCpu),
        }
        self.steps = step;
        Ok(norm)
    }

    fn norm(&self, gradients: &Gradients) -> Result<f64, TrainError> {
        let mut sum = 0.0;
        match gradients {
            Gradients::Flat(gradient) => sum_squares(gradient, &mut sum),
            Gradients::Tensors(tensors) => {
                for tensor in tensors {
                    sum += f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?);
                }
            }
        }
        Ok(sum.sqrt())
    }
}

/// The numbers of one step for one tensor.
#[derive(Clone, Copy)]
struct Rule {
    clip: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// Learning rate over the first moment's bias correction.
    rate: f32,
    /// 1 over the root of the second moment's bias correction.
    second_scale: f32,
    /// What decay leaves of a weight.
    keep: f32,
}

impl Rule {
    fn apply_tensors(self, var: &Var, gradient: &Tensor, moments: &mut [Tensor; 2]) -> candle_core::Result<()> {
        let scale = |x: f32| f64::from(x);
        let gradient = (gradient * scale(self.clip))?;
        let first = ((&moments[0] * scale(self.beta1))? + (&gradient * (1.0 - scale(self.beta1)))?)?;
        let second = ((&moments[1] * scale(self.beta2))? + (gradient.sqr()? * (1.0 - scale(self.beta2)))?)?;
        let bottom = ((second.sqrt()? * scale(self.second_scale))? + scale(self.eps))?;
        let moved = ((var.as_tensor() * scale(self.keep))? - ((&first / bottom)? * scale(self.rate))?)?;
        var.set(&moved.detach())?;
        *moments = [first.detach(), second.detach()];
        Ok(())
    }
}

/// One pass over weight, gradient and moments.
struct Update<'a> {
    rule: Rule,
    gradient: &'a [f32],
    /// Candle hands out `&self`, and calls once.
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        const BLOCK: usize = 1 << 16;
        let (CpuStorage::F32(weights), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("adamw: weights are not contiguous f32");
        };
        let weights = &mut weights[start..end];
        let (rule, gradient) = (self.rule, self.gradient);
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        if weights.len() <= BLOCK {
            update(rule, weights, gradient, first, second);
        } else {
            weights
                .par_chunks_mut(BLOCK)
                .zip(gradient.par_chunks(BLOCK))
                .zip(first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK)))
                .for_each(|((weights, gradient), (first, second))| update(rule, weights, gradient, first, second));
        }
        Ok(())
    }
}

simd_fn! {
    fn update<'a>(
        rule: Rule, weights: &'a mut [f32], gradient: &'a [f32], first: &'a mut [f32], second: &'a mut [f32],
    ) {
        let Rule { clip, beta1, beta2, eps, rate, second_scale, keep } = rule;
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
            let g = g * clip;
            *m = beta1.mul_add(*m, (1.0 - beta1) * g);
            *v = beta2.mul_add(*v, (1.0 - beta2) * g * g);
            *w = w.mul_add(keep, -(rate * *m / v.sqrt().mul_add(second_scale, eps)));
        }
    }
}

simd_fn! {
    /// Adds in f64 over blocks, so that the norm of a large model keeps its digits.
    fn sum_squares<'a>(values: &'a [f32], sum: &'a mut f64) {
        for block in values.chunks(1024) {
            *sum += f64::from(dot(block, block));
        }
    }
}
