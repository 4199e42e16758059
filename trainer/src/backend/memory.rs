//! What a run will take of memory, said before it begins, and what there is.

use super::checkpoint::{kept, lora, shape};
use super::{BackendError, WINDOW};
use crate::config::{Backend, Config};
use crate::environments::{Difficulty, EnvironmentName};
use crate::sampler;
use rao_backends::candle::{Footprint, LoraConfig, ModelConfig, Update};
use rao_tree::Mask;
use std::fmt;
use std::path::Path;

/// Tokens of a node's context, and how many of them are its own, as runs on easy and medium tasks have them: an estimate of what cannot be
/// known before.
const NODE_TOKENS: usize = 16;
/// See [`NODE_TOKENS`].
const NODE_ACTIONS: usize = 8;
/// Nodes of a tree on average, while training.
const TREE_NODES: usize = 30;
/// Nodes of a tree of the teacher, on easy tasks.
const LESSON_NODES: usize = 5;
/// The program, its world and tasks.
const PROGRAM: u64 = 16 << 20;
/// What a node of a tree under evaluation takes, its share of the live ones included: half of the 420 bytes that were measured, because a policy
/// that does not delegate yet grows none.
const NODE: usize = 210;

/// Bytes of a run at its peak, by part. What learning takes follows from shapes; [what the rest takes](Memory::is_estimate) depends on
/// the policy, and is what a trained one takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    parts: Vec<(&'static str, u64)>,
}

/// A run that does not fit.
#[derive(Debug, thiserror::Error)]
#[error(
    "this run takes about {} of memory and there are {}: {}. Ways to take less: lora.rank=16 and dtype=bf16, learner.checkpointing=true, a smaller learner.tokens or warmstart.trees; learner.memory sets the bound by hand",
    Bytes(*.needed), Bytes(*.available), .memory.one_line()
)]
pub struct DoesNotFit {
    /// Bytes that are predicted.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
    /// By part.
    pub memory: Memory,
}

/// The policy of a run, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What it is made of.
    pub parameters: usize,
    /// Those of them that learn.
    pub trained: usize,
    /// Tokens that it knows.
    pub vocab: usize,
}

impl Size {
    /// Of the run that a configuration describes. Of a checkpoint only `config.json` is read.
    ///
    /// # Errors
    /// [`BackendError`]: the shape cannot be read, or the adapter does not fit it.
    pub fn of(config: &Config) -> Result<Self, BackendError> {
        let (model, lora) = model(config)?;
        let parameters = model.parameters();
        Ok(Self {
            parameters,
            trained: lora.map_or(parameters, |lora| lora.parameters(&model)),
            vocab: model.vocab_size,
        })
    }
}

fn model(config: &Config) -> Result<(ModelConfig, Option<LoraConfig>), BackendError> {
    let model = if config.model.path.is_empty() {
        shape(config)?
    } else {
        ModelConfig::load(Path::new(&config.model.path))?
    };
    let lora = lora(&config.lora)?;
    if let Some(lora) = &lora {
        lora.validate(&model)?;
    }
    Ok((model, lora))
}

impl Memory {
    /// Of the run that a configuration describes. Of a checkpoint only `config.json` is read.
    ///
    /// # Errors
    /// [`BackendError`]: the shape cannot be read, or the adapter does not fit it.
    pub fn predict(config: &Config) -> Result<Self, BackendError> {
        let (model, lora) = model(config)?;
        let threads = sampler::threads(config.threads);
        let rao = &config.rao;
        let trees = rao.tasks * rao.trees;
        let context = config.limits.context.max(config.eval.limits.context) as usize;
        // The larger of an update of the warm start and one of RAO.
        let minibatch = trees * TREE_NODES / rao.minibatches.max(1);
        let batch = minibatch.max(config.warmstart.nodes) * NODE_TOKENS;
        let on_cpu = config.device == "cpu";
        let footprint = Footprint::of(
            &model,
            &Update {
                dtype: kept(config.dtype),
                lora: lora.clone(),
                tokens: config.learner.tokens,
                longest: context,
                batch,
                checkpointing: config.learner.checkpointing,
                // The learner takes every core, whatever `threads` leaves to rollouts.
                threads: sampler::threads(0),
            },
        );
        // The policies of a run stay until it is evaluated: after the warm start, after RAO, and the flat twin.
        let policies = if config.flat.enabled { 3 } else { 2 };
        let (weights, adapters) = match lora {
            // One base serves them all.
            Some(_) => (footprint.weights, policies * footprint.adapter),
            None => (policies * footprint.weights, 0),
        };
        let packed = 4 * (model.parameters() + model.vocab_size * model.hidden_size) as u64;
        let cache = cache(&model, config, threads);
        let sampling = match config.rollout.backend {
            // New weights are packed while the old ones are still there.
            Backend::Candle => 2 * packed + cache,
            // A file in the page cache is not counted. The evaluation samples in full precision.
            Backend::LlamaCpp => {
                let cells = context.next_multiple_of(256) * config.rollout.slots as usize;
                let keys = 4 * (2 * model.num_hidden_layers * model.key_width() * cells) as u64;
                packed + keys.max(cache)
            }
        };
        let words = Mask::words(model.vocab_size);
        let node = NODE_TOKENS * 4 + NODE_ACTIONS * (8 + 8 * words) + 200;
        let nodes = config.warmstart.trees * LESSON_NODES + trees * TREE_NODES;
        let mut parts = vec![
            ("weights", weights),
            ("adapters", adapters),
            ("gradients", footprint.gradients),
            ("moments of AdamW", footprint.moments),
            ("activations", footprint.activations),
            ("sampler", sampling),
            ("transcripts", (nodes * node) as u64),
            ("trees", evaluated(config)),
            ("program", PROGRAM),
        ];
        if !on_cpu {
            // They lie on the device.
            parts.retain(|(part, _)| matches!(*part, "sampler" | "transcripts" | "trees" | "program"));
        }
        parts.retain(|(_, bytes)| *bytes > 0);
        Ok(Self { parts })
    }

    /// Name and bytes of every part.
    #[must_use]
    pub fn parts(&self) -> &[(&'static str, u64)] {
        &self.parts
    }

    /// Whether a part depends on what the policy will do: on how large its trees are, above all.
    #[must_use]
    pub fn is_estimate(part: &str) -> bool {
        matches!(part, "transcripts" | "trees")
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Refuses a run that is predicted to take more than there is, or than `learner.memory` allows.
    ///
    /// # Errors
    /// [`DoesNotFit`], with the numbers.
    pub fn check(&self, config: &Config) -> Result<(), DoesNotFit> {
        let needed = self.total();
        match available(config) {
            Some(available) if needed > available => Err(DoesNotFit {
                needed,
                available,
                memory: self.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn one_line(&self) -> String {
        let parts = self
            .parts
            .iter()
            .map(|(part, bytes)| format!("{part} {}", Bytes(*bytes)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// What the caches of the samplers take, which is taken when sampling begins.
fn cache(model: &ModelConfig, config: &Config, threads: usize) -> u64 {
    let context = 4 * 2 * model.num_hidden_layers * model.key_width() * WINDOW;
    (config.rollout.cache << 20).max(threads * context) as u64
}

/// Trees of the evaluation, which are kept until the last of a difficulty has ended. Those of the trained policy are as large as their tasks ask
/// for, on average.
fn evaluated(config: &Config) -> u64 {
    /// Tasks of a difficulty where the configuration does not say.
    const TASKS: usize = 150;
    // Of the official tasks, and of tasks of the default sizes.
    let nodes: [usize; 4] = match config.environment {
        EnvironmentName::TextCraft => [4, 29, 340, 8600],
        EnvironmentName::NumberSearch | EnvironmentName::Aggregation => [5, 21, 85, 170],
    };
    let eval = &config.eval;
    let nodes = eval.difficulties.iter().map(|&difficulty| {
        let limit = match difficulty {
            Difficulty::Easy => eval.easy,
            Difficulty::Medium => eval.medium,
            Difficulty::Hard => eval.hard,
            Difficulty::Extreme => eval.extreme,
        };
        nodes[difficulty.index()] * if limit == 0 { TASKS } else { limit }
    });
    (nodes.max().unwrap_or(0) * NODE) as u64
}

/// Bytes that a run may take: what the configuration says, or what the machine, and the container that this runs in, have to spare. `None`
/// where nobody can tell.
#[must_use]
pub fn available(config: &Config) -> Option<u64> {
    if config.learner.memory > 0.0 {
        return Some((config.learner.memory * (1u64 << 30) as f64) as u64);
    }
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = Some(system.available_memory()).filter(|free| *free > 0);
    let contained = system.cgroup_limits().map(|limits| limits.free_memory);
    match (free, contained) {
        (Some(free), Some(contained)) => Some(free.min(contained)),
        (free, contained) => free.or(contained),
    }
}

/// The most memory that this process has taken so far, in bytes; `None` where the system does not say (it does on Linux).
#[must_use]
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Bytes for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIB: f64 = (1u64 << 30) as f64;
        const MIB: f64 = (1u64 << 20) as f64;
        let bytes = self.0 as f64;
        if bytes >= GIB {
            write!(f, "{:.1} GiB", bytes / GIB)
        } else if bytes < 0.1 * MIB {
            write!(f, "{:.1} KiB", bytes / 1024.0)
        } else {
            write!(f, "{:.1} MiB", bytes / MIB)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(settings: &[&str]) -> Memory {
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Memory::predict(&Config::resolve(None, &settings).unwrap()).unwrap()
    }

    fn part(memory: &Memory, name: &str) -> u64 {
        memory
            .parts()
            .iter()
            .find(|(part, _)| *part == name)
            .map_or(0, |(_, bytes)| *bytes)
    }

    const LARGE: [&str; 4] = [
        "model.hidden=512",
        "model.layers=8",
        "model.ff=1536",
        "model.head_dim=64",
    ];

    #[test]
    fn an_adapter_takes_the_place_of_moments_and_copies() {
        let whole = predicted(&LARGE);
        let mut settings = LARGE.to_vec();
        settings.push("lora.rank=8");
        let lora = predicted(&settings);
        assert_eq!(part(&whole, "weights"), 3 * part(&lora, "weights"));
        assert!(part(&lora, "moments of AdamW") * 10 < part(&whole, "moments of AdamW"));
        settings.push("learner.checkpointing=true");
        let checkpointed = predicted(&settings);
        assert!(part(&checkpointed, "activations") * 2 < part(&lora, "activations"));
    }

    #[test]
    fn a_run_that_does_not_fit_is_refused_with_the_numbers() {
        let settings: Vec<String> = LARGE.iter().map(|setting| (*setting).to_owned()).collect();
        let mut config = Config::resolve(None, &settings).unwrap();
        let memory = Memory::predict(&config).unwrap();
        config.learner.memory = 0.25;
        let refused = memory.check(&config).unwrap_err().to_string();
        for expected in ["there are 256.0 MiB", "moments of AdamW", "lora.rank", "learner.memory"] {
            assert!(refused.contains(expected), "{refused}");
        }
        config.learner.memory = 1024.0;
        memory.check(&config).unwrap();
    }
}
