//! Every default, in one place: the quickstart.

use super::{
    Agent, Backend, Checkpoint, Config, Correction, Dtype, Engine, Eval, Flat, Learner, Lora, Model, Nats, NodeCaps,
    Rao, Record, Rollout, TreeLimits, WarmStart, WeightsFormat, World,
};
use crate::environments::textcraft::vocabulary::Spawning;
use crate::environments::{Difficulty, EnvironmentName, Flaws, Sizes};
use rao_tree::credit::Estimator;

/// The projections of a block.
const PROJECTIONS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

impl Config {
    /// The defaults of an environment.
    #[must_use]
    pub fn of(environment: EnvironmentName) -> Self {
        match environment {
            EnvironmentName::TextCraft => Self::default(),
            EnvironmentName::NumberSearch => Self::number_search(),
            EnvironmentName::Aggregation => Self::aggregation(),
        }
    }

    /// A window of 32 tokens: 16 looks fill it.
    fn number_search() -> Self {
        let base = Self::sized(32);
        Self {
            environment: EnvironmentName::NumberSearch,
            warmstart: WarmStart {
                teacher: Flaws {
                    diligence: 0.9,
                    ..base.warmstart.teacher
                },
                ..base.warmstart
            },
            ..base
        }
    }

    /// A window of 64 tokens: 16 records fill it. To compare a record with a question takes longer to learn than to follow a motif, and there are
    /// more ways to be nearly right.
    fn aggregation() -> Self {
        let base = Self::sized(64);
        Self {
            environment: EnvironmentName::Aggregation,
            warmstart: WarmStart {
                steps: 2500,
                ..base.warmstart
            },
            rao: Rao {
                steps: 120,
                lr_decay_from: 60,
                ..base.rao
            },
            ..base
        }
    }

    /// What environments whose tasks are measured in windows have in common. Trees are small, as no piece of the input is handed out twice. The
    /// teacher would rather go on by itself than delegate, so that its greedy clone is a flat agent.
    fn sized(window: u32) -> Self {
        let base = Self::default();
        let limits = TreeLimits {
            nodes: 100,
            tokens: 4000,
            context: window,
            ..base.limits
        };
        Self {
            world: World {
                source: "generated".into(),
                ..base.world
            },
            limits,
            warmstart: WarmStart {
                teacher: Flaws {
                    diligence: 0.85,
                    delegation: 0.4,
                    distraction: 0.1,
                    surrender: 0.6,
                },
                ..base.warmstart
            },
            eval: Eval {
                extreme: 0,
                nodes: NodeCaps {
                    easy: 100,
                    medium: 200,
                    hard: 400,
                    extreme: 800,
                },
                limits: TreeLimits {
                    depth: 16,
                    nodes: 800,
                    tokens: 40_000,
                    concurrent: 512,
                    ..limits
                },
                ..base.eval
            },
            ..base
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let limits = TreeLimits {
            depth: 8,
            nodes: 150,
            children: 64,
            steps: 16,
            tokens: 4500,
            context: 64,
            concurrent: 256,
            seconds: 60.0,
        };
        Self {
            environment: EnvironmentName::TextCraft,
            seed: 0,
            threads: 0,
            device: "cpu".into(),
            dtype: Dtype::F32,
            world: World {
                source: "official".into(),
                seed: 42,
                windows: Sizes([1.0, 4.0, 8.0, 16.0]),
            },
            model: Model {
                path: String::new(),
                hidden: 64,
                layers: 2,
                heads: 4,
                kv_heads: 4,
                head_dim: 16,
                ff: 128,
                rope_theta: 1000.0,
            },
            lora: Lora {
                rank: 0,
                alpha: 0.0,
                targets: PROJECTIONS.map(str::to_owned).to_vec(),
            },
            learner: Learner {
                tokens: 0,
                checkpointing: false,
                memory: 0.0,
            },
            agent: Agent {
                slots: 24,
                spawn: Spawning::Missing,
                parallel: true,
                written_amounts: false,
                written_names: false,
            },
            limits,
            warmstart: WarmStart {
                steps: 350,
                nodes: 64,
                lr: 3e-3,
                trees: 6000,
                flat_share: 0.3,
                teacher: Flaws {
                    diligence: 0.6,
                    delegation: 0.7,
                    distraction: 0.15,
                    surrender: 0.6,
                },
            },
            rollout: Rollout {
                engine: Engine::InProcess,
                backend: Backend::Candle,
                quant: "q8_0".into(),
                slots: 256,
                cache: 256,
                stall: 600.0,
            },
            nats: Nats {
                url: "nats://127.0.0.1:4222".into(),
                creds: String::new(),
                name: "rao".into(),
                ack_wait: 30.0,
                deliveries: 5,
                patience: 3600.0,
                replicas: 1,
                weights: vec![WeightsFormat::Safetensors, WeightsFormat::Gguf],
            },
            rao: Rao {
                steps: 60,
                tasks: 8,
                trees: 8,
                difficulty: Difficulty::Medium,
                lr: 1e-3,
                lr_warmup: 3,
                lr_decay_from: 40,
                lr_final: 2e-4,
                minibatches: 4,
                temperature: 1.0,
                correction: Correction::Cispo,
                ratio_clip: 5.0,
                ratio_low: 0.0,
                mismatch_warn: 0.1,
                staleness_max: 12,
                failed_max: 0.5,
                beta1: 0.9,
                beta2: 0.95,
                weight_decay: 0.017,
                grad_clip: 1.0,
                estimator: Estimator::default(),
            },
            flat: Flat { enabled: true },
            eval: Eval {
                difficulties: Difficulty::ALL.to_vec(),
                easy: 0,
                medium: 0,
                hard: 0,
                extreme: 16,
                trees: 32,
                nodes: NodeCaps {
                    easy: 100,
                    medium: 1000,
                    hard: 5000,
                    extreme: 40_000,
                },
                limits: TreeLimits {
                    depth: 16,
                    nodes: 40_000,
                    tokens: 800_000,
                    concurrent: 512,
                    seconds: 300.0,
                    ..limits
                },
            },
            record: Record { groups: 4 },
            checkpoint: Checkpoint { every: 20, keep: 2 },
        }
    }
}
