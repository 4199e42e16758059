//! Every default, in one place: the quickstart.

use super::{
    Agent, Backend, Config, Correction, Dtype, Eval, Flat, Learner, Lora, Model, NodeCaps, Rao, Rollout, TreeLimits,
    WarmStart, World,
};
use crate::environments::textcraft::Difficulty;
use crate::environments::textcraft::teacher::Flaws;
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
            seed: 0,
            threads: 0,
            device: "cpu".into(),
            dtype: Dtype::F32,
            world: World {
                source: "official".into(),
                seed: 42,
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
            agent: Agent { slots: 24 },
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
                backend: Backend::Candle,
                quant: "q8_0".into(),
                slots: 256,
                cache: 256,
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
        }
    }
}
