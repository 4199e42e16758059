//! The configuration of a run: one typed structure, one place for every default.
//!
//! Values come from the defaults, then from a TOML file, then from `--set key=value`. An unknown key or a value of another type is
//! refused with its dotted path and the nearest key there is; the resolved configuration is written into the run directory.

mod defaults;
mod error;
mod learner;
mod merge;
mod validate;

use crate::environments::textcraft::vocabulary::{Interface, Spawning};
use crate::environments::{Difficulty, EnvironmentName, Flaws, Sizes};
pub use error::ConfigError;
pub use learner::{Dtype, Learner, Lora, Model};
use merge::{merge, parse_setting};
use rao_backends::files;
use rao_tree::Limits;
use rao_tree::credit::Estimator;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use toml::Table;

/// Longest configuration or grid that is read, in bytes: a parsed one takes a hundred times as much.
pub(crate) const TEXT_MAX: u64 = 1 << 20;
/// Longest context, in tokens: the window of the policies that are trained here.
pub const CONTEXT_MAX: u32 = 4096;

/// Everything that a training run is made of. The default is the quickstart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is trained on: `textcraft`, `number-search` or `aggregation`. The defaults of the other keys follow it.
    pub environment: EnvironmentName,
    /// Source of all randomness.
    pub seed: u64,
    /// Threads that roll out; 0 takes one per core, for llama.cpp one fewer: its threads spin while they wait for one another.
    pub threads: usize,
    /// Where the learner computes: `cpu`, or `cuda` or `metal` if built with the feature of that name. The Candle sampler is on the CPU.
    pub device: String,
    /// How the matrices of a frozen base are kept, with `lora.rank` above 0: `f32`, `bf16` or `f16`. What learns is always f32.
    pub dtype: Dtype,
    /// Where recipes and tasks come from.
    pub world: World,
    /// Shape of the policy, or the checkpoint that it starts from.
    pub model: Model,
    /// Low-rank adaptation: what learns if not all weights.
    pub lora: Lora,
    /// How an update is computed.
    pub learner: Learner,
    /// The token interface of the agents.
    pub agent: Agent,
    /// Caps of a tree while training.
    pub limits: TreeLimits,
    /// The warm start.
    pub warmstart: WarmStart,
    /// What samples while training.
    pub rollout: Rollout,
    /// Where workers on other machines are met, with `rollout.engine=nats`.
    pub nats: Nats,
    /// Recursive agent optimization.
    pub rao: Rao,
    /// The flat twin.
    pub flat: Flat,
    /// Evaluation.
    pub eval: Eval,
    /// Trees that are kept to be looked at.
    pub record: Record,
    /// What an interrupted run goes on from.
    pub checkpoint: Checkpoint,
}

/// Checkpoints in the run's `checkpoints/`, for `rao train --resume`. One is always written where a stage of the run begins, and on Ctrl-C.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Steps between two of them, of the warm start or of an arm; 0 writes none in between.
    pub every: usize,
    /// The newest so many are kept, at least 1; and, of each arm, the one after the steps with the highest root success.
    pub keep: usize,
}

/// Trees that are kept in the run's `traces/`, for `rao report` and `rao trace`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Groups of training trees of every arm, of steps spread over the training, and the first tree of every difficulty that is evaluated; 0
    /// keeps none of them.
    pub groups: usize,
}

/// Where recipes and tasks come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// `official` (the published benchmark, built in), `generated` (a new world from `seed`), or a directory in the official layout.
    pub source: String,
    /// Seed of a generated world, and of the tasks of other environments.
    pub seed: u64,
    /// Of environments other than TextCraft: how many windows of `limits.context` tokens the input of a task fills, by difficulty.
    pub windows: Sizes,
}

/// The token interface of the agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Items that one node can tell apart, at most 64.
    pub slots: u32,
    /// TextCraft: what may be handed on: `missing`, what was shown as missing and has not been made since; or `free`, every item that was seen,
    /// the node's own goal too.
    pub spawn: Spawning,
    /// TextCraft: up to three children in one SPAWN, at work side by side; otherwise one.
    pub parallel: bool,
    /// TextCraft: the agent writes how many of an item it wants, which otherwise is filled in.
    pub written_amounts: bool,
    /// TextCraft: the agent spells the names of items, two tokens each, and is told when there is none; otherwise it points at one that it has
    /// seen, and can point at no other.
    pub written_names: bool,
}

impl Agent {
    /// The same, as agents of TextCraft take it.
    #[must_use]
    pub fn interface(&self) -> Interface {
        Interface {
            spawn: self.spawn,
            parallel: self.parallel,
            amounts: self.written_amounts,
            names: self.written_names,
        }
    }
}

/// Caps of a tree: those of [`Limits`], and a wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeLimits {
    /// Deepest node; 0 forbids delegation.
    pub depth: u8,
    /// Nodes of the tree.
    pub nodes: u32,
    /// Children of one node over its life.
    pub children: u16,
    /// Actions of one node.
    pub steps: u16,
    /// Tokens that may be sampled in the whole tree.
    pub tokens: u64,
    /// Tokens of one node's context, at most 4096.
    pub context: u32,
    /// Nodes at work at once; bounds memory, never refuses.
    pub concurrent: u32,
    /// Wall clock of one tree, in seconds; what has not ended by then is timed out and teaches nothing.
    pub seconds: f64,
}

impl TreeLimits {
    /// The same caps for the driver, with another depth, in an environment whose longest action has so many tokens.
    #[must_use]
    pub fn at_depth(&self, depth: u8, action_max: u32) -> Limits {
        Limits {
            depth_max: depth,
            nodes_max: self.nodes,
            children_max: self.children,
            steps_max: self.steps,
            tokens_max: self.tokens,
            action_max,
            context_max: self.context,
            concurrent_max: self.concurrent,
            // Microseconds of at most eleven days: far from where a float loses them.
            deadline_us: Some((self.seconds * 1e6) as u64),
        }
    }
}

/// The warm start: cloning a flawed teacher on easy tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmStart {
    /// Updates.
    pub steps: usize,
    /// Nodes per update.
    pub nodes: usize,
    /// Learning rate; falls to three tenths after three fifths of the steps.
    pub lr: f64,
    /// Trees that the teacher rolls out.
    pub trees: usize,
    /// Share of the trees in which it may not spawn.
    pub flat_share: f64,
    /// How flawed the teacher is.
    pub teacher: Flaws,
}

/// What samples while training. Evaluation at the end of a run is in full precision: it says what was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Where trees of training are rolled out: `in-process`, or `nats`, by workers on this machine and others (`rao worker`).
    pub engine: Engine,
    /// `candle`, in full precision, or `llama-cpp`, from a GGUF file that is written after every step.
    pub backend: Backend,
    /// How that file stores the weights: f32, f16, q8_0, q4_0 or one of llama.cpp's others. Without meaning for `candle`.
    pub quant: String,
    /// llama.cpp: contexts that keep their keys and values, at most 256. Each takes memory for `limits.context` tokens, rounded up to 256.
    pub slots: u32,
    /// Candle: MiB of keys and values that the samplers keep, all together, and never less than one context each. They are taken when
    /// sampling begins, so that a run which has begun finds them; what does not fit is computed again.
    pub cache: usize,
    /// Seconds that one call into the policy or an environment may take before the rollout ends with an error: whatever hangs cannot be ended, but
    /// need not be waited for.
    pub stall: f64,
}

impl Rollout {
    /// How long one call may take.
    #[must_use]
    pub fn stall(&self) -> Duration {
        // In range, as it was checked; whoever made the configuration by hand gets the longest there is.
        Duration::try_from_secs_f64(self.stall).unwrap_or(Duration::MAX)
    }
}

/// Where trees of training are rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// In this process.
    InProcess,
    /// By workers that are met at a NATS server.
    Nats,
}

/// Workers elsewhere, met at a NATS server with JetStream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    /// Its URL, or those of a cluster, separated by commas: `nats://host:4222`, or `tls://host:4222`. Anything but this machine itself takes
    /// credentials: `user:password@` in the URL, `user@` and the password in the environment variable `RAO_NATS_PASSWORD`, or `creds`. A
    /// password is never written down with the configuration.
    #[serde(serialize_with = "without_passwords")]
    pub url: String,
    /// A file of credentials, as NATS makes them; none where it is empty.
    pub creds: String,
    /// What trainer and workers call their meeting place: one for each training on a server. Letters, digits, `-` and `_`.
    pub name: String,
    /// Seconds after which a worker that says nothing is taken for dead and its trees are given to others. Workers say something three times as
    /// often.
    pub ack_wait: f64,
    /// To how many workers a tree is given, one after the other, if each of them dies of it, before it counts as failed.
    pub deliveries: u32,
    /// Seconds without a tree from anyone, or without the server, after which the run ends with an error, to be resumed.
    pub patience: f64,
    /// Copies that a cluster keeps of everything, 1 to 5.
    pub replicas: usize,
    /// What weights are published as: `safetensors` for workers that sample with Candle, `gguf`, of `rollout.quant`, for those with llama.cpp.
    pub weights: Vec<WeightsFormat>,
}

/// The URLs, each without what stands between `user:` and `@`.
fn without_passwords<S: serde::Serializer>(urls: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let plain = urls.split(',').map(|url| {
        let (scheme, rest) = url
            .split_once("://")
            .map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
        match rest.rsplit_once('@') {
            Some((user, host)) => format!("{scheme}{}@{host}", user.split(':').next().unwrap_or(user)),
            None => url.to_owned(),
        }
    });
    serializer.serialize_str(&plain.collect::<Vec<_>>().join(","))
}

/// What weights are published as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsFormat {
    /// `config.json` and `model.safetensors`: for workers that sample with Candle.
    Safetensors,
    /// A GGUF file: for workers that sample with llama.cpp, or have llama-server sample.
    Gguf,
}

/// What samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The policy's own arithmetic, in f32.
    Candle,
    /// llama.cpp, quantised or not.
    LlamaCpp,
}

/// Recursive agent optimization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rao {
    /// Updates of the policy; each takes `tasks` x `trees` rollouts.
    pub steps: usize,
    /// Root tasks per step.
    pub tasks: usize,
    /// Trees per root task: the group, at least 2 for leave-one-out.
    pub trees: usize,
    /// Difficulty of the root tasks: `easy`, `medium`, `hard` or `extreme`.
    pub difficulty: Difficulty,
    /// Highest learning rate.
    pub lr: f64,
    /// Steps over which the learning rate rises to `lr`.
    pub lr_warmup: usize,
    /// Step from which the learning rate falls linearly to `lr_final`.
    pub lr_decay_from: usize,
    /// Learning rate of the last step.
    pub lr_final: f64,
    /// Optimizer updates per step, over disjoint parts of its nodes.
    pub minibatches: usize,
    /// Softmax temperature of the rollouts.
    pub temperature: f32,
    /// How an update corrects for a sampler that is not the policy: `cispo`, `token-tis`, `sequence-tis`, `geometric-tis`, `token-mask`,
    /// `sequence-mask`, `geometric-mask` or `none`.
    pub correction: Correction,
    /// Greatest importance ratio: a larger one is clipped to it, or masked.
    pub ratio_clip: f32,
    /// Least importance ratio, 0 to 1; a smaller one is masked. Read by masks alone.
    pub ratio_low: f32,
    /// Warn when sampler and learner differ by more than this, in nats: mean |delta log p| over the actions of the first update of a
    /// step. inf never warns.
    pub mismatch_warn: f64,
    /// Oldest trees that are trained on, in updates between the weights that drew them and those of the step's first update. Older ones
    /// are dropped and counted. The default is the authors' three steps, of four updates here.
    pub staleness_max: u64,
    /// Greatest share of a step's trees that may fail, 0 to 1: trees whose root cannot be judged, because something broke or took too long. A step
    /// with more ends the run before it is learned from. By the default most trees of a group still count on average; the rest would be a
    /// baseline of one or none.
    pub failed_max: f64,
    /// AdamW: beta1, beta2, decoupled weight decay.
    pub beta1: f64,
    /// See `beta1`.
    pub beta2: f64,
    /// See `beta1`.
    pub weight_decay: f64,
    /// Largest global norm of a gradient.
    pub grad_clip: f64,
    /// How advantages are computed.
    pub estimator: Estimator,
}

/// What multiplies an action's gradient because the sampler is not the policy: a constant made of the importance ratio
/// pi / pi_behaviour, of the action or of all actions of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// The ratio of the token, clipped to 0..=`ratio_clip`: the paper's.
    Cispo,
    /// Truncated importance sampling by token: the same coefficient as `cispo`, under its other name.
    TokenTis,
    /// The product of the ratios of a node's tokens, at most `ratio_clip`.
    SequenceTis,
    /// Their geometric mean, at most `ratio_clip`.
    GeometricTis,
    /// The ratio of the token; 0 outside `ratio_low`..=`ratio_clip`.
    TokenMask,
    /// The product of the ratios of a node's tokens; 0 outside `ratio_low`..=`ratio_clip`.
    SequenceMask,
    /// Their geometric mean; 0 outside `ratio_low`..=`ratio_clip`.
    GeometricMask,
    /// Always 1: REINFORCE.
    None,
}

impl Correction {
    /// Whether ratios outside the bounds train nothing, instead of being clipped.
    #[must_use]
    pub fn masks(self) -> bool {
        matches!(self, Self::TokenMask | Self::SequenceMask | Self::GeometricMask)
    }
}

/// The flat twin: the same model, actions and limits without SPAWN, trained with as many environment tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flat {
    /// Whether it is trained and evaluated at all.
    pub enabled: bool,
}

/// Evaluation on held-out items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Difficulties to evaluate.
    pub difficulties: Vec<Difficulty>,
    /// Tasks per difficulty; 0 takes all there are.
    pub easy: usize,
    /// See `easy`.
    pub medium: usize,
    /// See `easy`.
    pub hard: usize,
    /// See `easy`. Trees of extreme tasks have 7,332 nodes on average.
    pub extreme: usize,
    /// Trees under way at once. With 1 the seconds of a tree are its latency.
    pub trees: usize,
    /// Nodes of a tree by difficulty, below `limits.nodes`: several times what plain recursion takes, so that a policy that spawns
    /// without end costs seconds, not hours.
    pub nodes: NodeCaps,
    /// Caps of a tree.
    pub limits: TreeLimits,
}

/// Nodes of a tree, by difficulty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCaps {
    /// Plain recursion takes up to 8.
    pub easy: u32,
    /// Plain recursion takes up to 101.
    pub medium: u32,
    /// Plain recursion takes up to 1,361.
    pub hard: u32,
    /// Plain recursion takes up to 32,763.
    pub extreme: u32,
}

impl Config {
    /// The defaults of the environment, changed by the file and then by the `key=value` settings, checked.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file or setting and the dotted path.
    pub fn resolve(file: Option<&Path>, settings: &[String]) -> Result<Self, ConfigError> {
        let mut layers = Vec::with_capacity(1 + settings.len());
        if let Some(path) = file {
            let text = files::read_text(path, TEXT_MAX).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            let origin = path.display().to_string();
            let given: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
                origin: origin.clone(),
                message: error.to_string(),
            })?;
            layers.push((given, origin));
        }
        for setting in settings {
            let origin = format!("--set {setting}");
            layers.push((parse_setting(setting, &origin)?, origin));
        }
        Self::layered(layers)
    }

    /// The defaults of the environment, changed by one table after the other, checked. Each comes with what errors call it.
    ///
    /// # Errors
    /// [`ConfigError`], naming the table and the dotted path.
    pub fn layered(layers: Vec<(Table, String)>) -> Result<Self, ConfigError> {
        // What the other defaults follow has to be known first.
        let mut environment = EnvironmentName::default();
        for (given, _) in &layers {
            if let Some(named) = given.get("environment") {
                environment = named.clone().try_into().map_err(|_| ConfigError::OutOfRange {
                    path: "environment",
                    message: format!("takes {}", EnvironmentName::ALL.map(EnvironmentName::name).join(", ")),
                })?;
            }
        }
        let mut table = Table::try_from(Self::of(environment)).map_err(|error| ConfigError::Syntax {
            origin: "defaults".into(),
            message: error.to_string(),
        })?;
        for (given, origin) in layers {
            merge(&mut table, given, &origin)?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: "configuration".into(),
            message: error.to_string().trim().replace('\n', " "),
        })?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`]; a configuration that was resolved always has a form in TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|error| ConfigError::Syntax {
            origin: "configuration".into(),
            message: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(setting: &str) -> String {
        Config::resolve(None, &[setting.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn settings_reach_their_place() {
        let settings = [
            "rao.lr=5e-4",
            "rao.estimator.lambda=1",
            "world.source=generated",
            "flat.enabled=false",
        ];
        let config = Config::resolve(None, &settings.map(str::to_owned)).unwrap();
        assert_eq!(config.rao.lr, 5e-4);
        assert_eq!(config.rao.estimator.lambda, 1.0);
        assert_eq!(config.world.source, "generated");
        assert!(!config.flat.enabled);
    }

    #[test]
    fn a_mask_leaves_room_for_what_the_policy_draws() {
        let resolve = |correction: &str| {
            let settings = ["rao.ratio_clip=0.9".to_owned(), format!("rao.correction={correction}")];
            Config::resolve(None, &settings).map_err(|error| error.to_string())
        };
        assert_eq!(resolve("sequence-tis").unwrap().rao.correction, Correction::SequenceTis);
        let error = resolve("geometric-mask").unwrap_err();
        assert!(error.starts_with("`rao.ratio_clip`: below 1 a mask drops"), "{error}");
    }

    #[test]
    fn passwords_are_not_written_down() {
        let url = "nats://me:p@ss@one:1,tls://two,three:4222,nats://you@four";
        let config = Config::resolve(None, &[format!("nats.url={url}")]).unwrap();
        assert_eq!(config.nats.url, url);
        let written = config.to_toml().unwrap();
        assert!(
            written.contains("url = \"nats://me@one:1,tls://two,three:4222,nats://you@four\""),
            "{written}"
        );
    }

    #[test]
    fn the_resolved_configuration_reads_back() {
        let config = Config::default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, config.to_toml().unwrap()).unwrap();
        assert_eq!(Config::resolve(Some(&path), &[]).unwrap(), config);
    }

    #[test]
    fn what_is_refused_names_the_path_and_the_way_out() {
        insta::assert_snapshot!(
            [
                refused("rao.stepz=3"),
                refused("steps=3"),
                refused("rao.estimator.lamda=0.4"),
                refused("rao.steps=many"),
                refused("rao=3"),
                refused("rao.trees=1"),
                refused("rao.trees=0"),
                refused("rao.estimator.lambda=-1"),
                refused("rao.estimator.baseline=median"),
                refused("rao.difficulty=impossible"),
                refused("warmstart.teacher.diligence=2"),
                refused("eval.limits.context=3"),
                refused("nonsense"),
                refused("limits.seconds=1e20"),
                refused("limits.context=5000"),
                refused("rao.grad_clip=-1"),
                refused("rao.beta2=1"),
                refused("rao.ratio_clip=nan"),
                refused("rao.ratio_low=1.5"),
                refused("rao.correction=ppo"),
                refused("rao.mismatch_warn=nan"),
                refused("rao.staleness_max=-1"),
                refused("device=tpu"),
                refused("rollout.quant=\"../up\""),
                refused("rao.failed_max=1.5"),
                refused("rollout.stall=0"),
                refused("rollout.engine=mail"),
                refused("nats.name=\"a.b\""),
                refused("nats.url=http://host"),
                refused("nats.url=../up"),
                refused("nats.creds=my.creds"),
                refused("nats.deliveries=0"),
                refused("nats.ack_wait=0.1"),
                refused("nats.patience=0"),
                refused("nats.replicas=6"),
                refused("nats.weights=[]"),
                refused("nats.weights=[\"onnx\"]"),
                refused("checkpoint.keep=0"),
                refused("threads=100000"),
                refused("lora.rank=16.5"),
                refused("lora.alpha=-1"),
                refused("dtype=bf16"),
                refused("learner.memory=-1"),
                refused("qwertz=1"),
            ]
            .join("\n")
        );
    }
}
