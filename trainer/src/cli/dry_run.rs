//! `rao train --dry-run`: what a run would do, and what it would take.

use rao_trainer::backend::memory::{Bytes, Memory, Size, available};
use rao_trainer::config::{Backend, Config};
use rao_trainer::environments::{Difficulty, Domain, RootTask};
use rao_trainer::evaluate;
use rao_trainer::rollout::live_node_bytes;
use rao_trainer::train;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Prints the plan and the memory, and succeeds if the run fits.
pub fn run(config: &Config, domain: &impl Domain, asked_for_json: bool) -> anyhow::Result<ExitCode> {
    train::Plan::check(config, domain)?;
    let memory = Memory::predict(config)?;
    let there = available(config);
    let fits = memory.check(config).is_ok();
    let plan = Plan::of(config, domain)?;
    if asked_for_json {
        let parts: Map<_, _> = memory
            .parts()
            .iter()
            .map(|(part, bytes)| ((*part).to_owned(), (*bytes).into()))
            .collect();
        let found = json!({ "plan": plan.to_json(), "parts": parts, "total": memory.total(), "available": there, "fits": fits });
        super::print(&format!("{found}\n"))?;
    } else {
        let mut text = String::new();
        for (name, what) in plan.lines() {
            text += &format!("{name:<18}{what}\n");
        }
        text.push('\n');
        for (part, bytes) in memory.parts() {
            let note = if Memory::is_estimate(part) {
                "   estimated: it depends on how large trees grow"
            } else {
                ""
            };
            text += &format!("{part:<18}{:>12}{note}\n", Bytes(*bytes).to_string());
        }
        text += &format!("{:<18}{:>12}\n", "in all", Bytes(memory.total()).to_string());
        if let Some(there) = there {
            let verdict = if fits { "it fits" } else { "it does not fit" };
            text += &format!("{:<18}{:>12}   {verdict}\n", "there are", Bytes(there).to_string());
        }
        super::print(&text)?;
    }
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run would do.
struct Plan<'a> {
    config: &'a Config,
    size: Size,
    /// Most bytes that a node takes as long as it lives.
    node: u64,
    /// Tasks to train on and held-out tasks, by difficulty.
    train: [usize; 4],
    held_out: [usize; 4],
    /// Tasks that are evaluated, by difficulty.
    evaluated: [usize; 4],
}

impl<'a> Plan<'a> {
    fn of<D: Domain>(config: &'a Config, domain: &D) -> anyhow::Result<Self> {
        let evaluated = |difficulty| {
            let asked = config.eval.difficulties.contains(&difficulty);
            let tasks = evaluate::select(domain.val(), difficulty, evaluate::limit(&config.eval, difficulty));
            if asked { tasks.count() } else { 0 }
        };
        let limits = config.limits.at_depth(config.limits.depth, domain.action_max());
        let size = Size::of(config)?;
        Ok(Self {
            config,
            size,
            node: live_node_bytes::<D::Agent>(&limits, size.vocab, true),
            train: Difficulty::ALL.map(|difficulty| count(domain.train(), difficulty)),
            held_out: Difficulty::ALL.map(|difficulty| count(domain.val(), difficulty)),
            evaluated: Difficulty::ALL.map(evaluated),
        })
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { config, .. } = self;
        let rao = &config.rao;
        let step = format!("{} tasks x {} trees", rao.tasks, rao.trees);
        let mut lines = vec![
            (
                "environment",
                format!("{}, {} world", config.environment.name(), config.world.source),
            ),
            ("to train on", by_difficulty(&self.train)),
            ("held out", by_difficulty(&self.held_out)),
            ("seed", format!("{}, of the world {}", config.seed, config.world.seed)),
            (
                "policy",
                format!(
                    "{} numbers, of which {} learn, on {}",
                    self.size.parameters, self.size.trained, config.device
                ),
            ),
            (
                "rollouts",
                match (config.rollout.backend, config.threads) {
                    (Backend::Candle, 0) => "candle, a thread per core".to_owned(),
                    (Backend::Candle, threads) => format!("candle, {threads} threads"),
                    (Backend::LlamaCpp, _) => format!("llama.cpp, {}", config.rollout.quant),
                },
            ),
            (
                "warm start",
                format!(
                    "{} updates on {} nodes each, of {} trees of the teacher on easy tasks",
                    config.warmstart.steps, config.warmstart.nodes, config.warmstart.trees
                ),
            ),
            (
                "RAO",
                format!(
                    "{} steps of {step} on {} tasks, {} updates each, at most {} deep and {} nodes a tree",
                    rao.steps, rao.difficulty, rao.minibatches, config.limits.depth, config.limits.nodes
                ),
            ),
        ];
        let live = rao.tasks * rao.trees * config.limits.nodes as usize;
        lines.push((
            "live nodes",
            format!("at most {live} at once, of at most {} each", Bytes(self.node)),
        ));
        if config.flat.enabled {
            lines.push((
                "flat twin",
                format!("steps of {step} until it has spent as many environment tokens"),
            ));
        }
        let policies = if config.flat.enabled {
            "both policies"
        } else {
            "the policy"
        };
        lines.push((
            "evaluation",
            format!(
                "{policies}, greedy and at temperature 1: {}",
                by_difficulty(&self.evaluated)
            ),
        ));
        let checkpoint = &config.checkpoint;
        let every = match checkpoint.every {
            0 => "where a stage begins".to_owned(),
            every => format!("every {every} steps"),
        };
        lines.push((
            "checkpoints",
            format!(
                "{every}; the newest {} are kept, and the best of each arm",
                checkpoint.keep
            ),
        ));
        lines
    }

    fn to_json(&self) -> Value {
        let Self { config, .. } = self;
        let tasks = |counts: &[usize; 4]| -> Map<String, Value> {
            let named = Difficulty::ALL.iter().zip(counts);
            named
                .map(|(difficulty, count)| (difficulty.name().to_owned(), (*count).into()))
                .collect()
        };
        json!({
            "environment": config.environment,
            "seed": config.seed,
            "train": tasks(&self.train),
            "held_out": tasks(&self.held_out),
            "evaluated": tasks(&self.evaluated),
            "parameters": self.size.parameters,
            "trained_parameters": self.size.trained,
            "live_node_bytes": self.node,
            "warmstart_steps": config.warmstart.steps,
            "rao_steps": config.rao.steps,
            "trees_per_step": config.rao.tasks * config.rao.trees,
            "flat": config.flat.enabled,
        })
    }
}

fn count(tasks: &[impl RootTask], difficulty: Difficulty) -> usize {
    tasks.iter().filter(|task| task.difficulty() == difficulty).count()
}

fn by_difficulty(counts: &[usize; 4]) -> String {
    let named = Difficulty::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
    let named: Vec<String> = named
        .map(|(difficulty, count)| format!("{count} {}", difficulty.name()))
        .collect();
    if named.is_empty() {
        "no tasks".to_owned()
    } else {
        named.join(", ")
    }
}
