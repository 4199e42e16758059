//! What a configuration must satisfy before anything is begun with it.

use super::*;

/// Where a learner may compute.
const DEVICES: [&str; 3] = ["cpu", "cuda", "metal"];
/// Longest wall clock of a tree, in seconds: eleven days, which nobody waits for by accident.
const SECONDS_MAX: f64 = 1e6;
/// Most trees of one step: their transcripts are held in memory until the update.
const TREES_MAX: usize = 65_536;
/// Longest name of a place where workers are met.
const PLACE_MAX: usize = 64;
/// Most rollout threads: each keeps a cache of its own.
const THREADS_MAX: usize = 256;

/// Whether it looks like the URL of a NATS server, with or without its scheme and a user.
fn is_server(url: &str) -> bool {
    let (scheme, rest) = url.trim().split_once("://").unwrap_or(("nats", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let of_a_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let known = ["nats", "tls", "ws", "wss"].contains(&scheme);
    known && !host.is_empty() && host.trim_end_matches('/').chars().all(of_a_host)
}

impl Config {
    /// Refuses what is outside its range, alone or together.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let fail = |path, message: &str| {
            Err(ConfigError::OutOfRange {
                path,
                message: message.into(),
            })
        };
        let rao = &self.rao;
        if rao.tasks == 0 {
            return fail("rao.tasks", "a step needs at least one root task");
        }
        if rao.trees == 0 {
            return fail("rao.trees", "a step without trees teaches nothing; use 8");
        }
        if rao.trees == 1 && rao.estimator.needs_peers() {
            let message = "a group of one tree has no leave-one-out baseline; use at least 2, or set \
                           rao.estimator.baseline to \"none\"";
            return fail("rao.trees", message);
        }
        if let Err(error) = rao.estimator.validate() {
            return fail("rao.estimator", &error.to_string());
        }
        if rao.minibatches == 0 {
            return fail("rao.minibatches", "a step needs at least one update");
        }
        for (path, value) in [
            ("warmstart.lr", self.warmstart.lr),
            ("rao.lr", rao.lr),
            ("rao.lr_final", rao.lr_final),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return fail(path, "takes a finite number of at least 0");
            }
        }
        let probabilities = [
            ("warmstart.flat_share", self.warmstart.flat_share),
            ("warmstart.teacher.diligence", self.warmstart.teacher.diligence),
            ("warmstart.teacher.delegation", self.warmstart.teacher.delegation),
            ("warmstart.teacher.distraction", self.warmstart.teacher.distraction),
            ("warmstart.teacher.surrender", self.warmstart.teacher.surrender),
        ];
        for (path, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return fail(path, "is a probability: it takes a number from 0 to 1");
            }
        }
        if rao.grad_clip.is_nan() || rao.grad_clip <= 0.0 {
            return fail("rao.grad_clip", "takes a number above 0; inf switches clipping off");
        }
        if !(self.lora.alpha.is_finite() && self.lora.alpha >= 0.0) {
            return fail(
                "lora.alpha",
                "takes a finite number of at least 0; 0 takes twice the rank",
            );
        }
        if self.lora.rank > 0 && self.lora.targets.is_empty() {
            return fail(
                "lora.targets",
                "names at least one projection, such as [\"q_proj\", \"v_proj\"]",
            );
        }
        if self.dtype != Dtype::F32 && self.lora.rank == 0 {
            let message = "f32 is what all weights learn in: steps are too small for fewer bits. Add lora.rank=16 to train an adapter on a frozen base";
            return fail("dtype", message);
        }
        if !(self.learner.memory.is_finite() && self.learner.memory >= 0.0) {
            return fail(
                "learner.memory",
                "takes a finite number of GiB; 0 takes what the machine has to spare",
            );
        }
        if !(rao.ratio_clip.is_finite() && rao.ratio_clip > 0.0) {
            return fail("rao.ratio_clip", "takes a finite number above 0; the paper's is 5");
        }
        if !(0.0..=1.0).contains(&rao.ratio_low) {
            return fail("rao.ratio_low", "takes a number from 0 to 1");
        }
        if rao.correction.masks() && rao.ratio_clip < 1.0 {
            let message =
                "below 1 a mask drops what the policy itself draws; use at least 1, or a correction that clips";
            return fail("rao.ratio_clip", message);
        }
        if rao.mismatch_warn.is_nan() || rao.mismatch_warn < 0.0 {
            return fail("rao.mismatch_warn", "takes a number of at least 0; inf never warns");
        }
        if !(rao.weight_decay.is_finite() && rao.weight_decay >= 0.0) {
            return fail("rao.weight_decay", "takes a finite number of at least 0");
        }
        for (path, beta) in [("rao.beta1", rao.beta1), ("rao.beta2", rao.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return fail(path, "takes a number from 0 to below 1");
            }
        }
        if rao.tasks.saturating_mul(rao.trees) > TREES_MAX {
            return fail("rao.tasks", "times `rao.trees` takes at most 65536 trees a step");
        }
        if !DEVICES.contains(&self.device.as_str()) {
            return fail("device", "takes cpu, cuda or metal");
        }
        // Which of them there are depends on the build, and a run may be read by another.
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.rollout.quant.is_empty() || !self.rollout.quant.chars().all(of_a_name) {
            return fail("rollout.quant", "takes the name of a type of GGUF files, such as q8_0");
        }
        if !(1..=256).contains(&self.rollout.slots) {
            return fail("rollout.slots", "takes 1 to 256");
        }
        if !(0.0..=1.0).contains(&rao.failed_max) {
            return fail("rao.failed_max", "is a share: it takes a number from 0 to 1");
        }
        if !(self.rollout.stall > 0.0 && self.rollout.stall <= SECONDS_MAX) {
            return fail("rollout.stall", "takes a number of seconds above 0 and up to 1e6");
        }
        let nats = &self.nats;
        let of_a_place = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !(1..=PLACE_MAX).contains(&nats.name.len()) || !nats.name.chars().all(of_a_place) {
            return fail("nats.name", "takes 1 to 64 letters, digits, - or _");
        }
        if !nats.url.split(',').all(is_server) {
            return fail(
                "nats.url",
                "takes nats://HOST:PORT or tls://HOST:PORT, several separated by commas",
            );
        }
        if !nats.creds.is_empty() && self.rollout.engine != Engine::Nats {
            return fail("nats.creds", "is read with rollout.engine=nats alone");
        }
        if !(1..=1000).contains(&nats.deliveries) {
            return fail("nats.deliveries", "takes 1 to 1000");
        }
        for (path, seconds) in [("nats.ack_wait", nats.ack_wait), ("nats.patience", nats.patience)] {
            if !(1.0..=SECONDS_MAX).contains(&seconds) {
                return fail(path, "takes a number of seconds from 1 to 1e6");
            }
        }
        if !(1..=5).contains(&nats.replicas) {
            return fail(
                "nats.replicas",
                "takes 1 to 5, and no more than the cluster has servers",
            );
        }
        if nats.weights.is_empty() {
            return fail("nats.weights", "takes \"safetensors\", \"gguf\" or both");
        }
        if !(1..=1 << 20).contains(&self.rollout.cache) {
            return fail("rollout.cache", "takes 1 to 1048576 MiB");
        }
        if self.threads > THREADS_MAX {
            return fail("threads", "takes at most 256; 0 takes one per core");
        }
        if !(rao.temperature.is_finite() && rao.temperature > 0.0) {
            return fail(
                "rao.temperature",
                "takes a finite number above 0: training samples, it is never greedy",
            );
        }
        if self.checkpoint.keep == 0 {
            return fail(
                "checkpoint.keep",
                "takes at least 1: without one there is nothing to go on from",
            );
        }
        if self.record.groups > 100 {
            return fail(
                "record.groups",
                "takes at most 100; each holds the logs of all trees of a task",
            );
        }
        if self.warmstart.nodes == 0 {
            return fail("warmstart.nodes", "an update needs at least one node");
        }
        if self.warmstart.trees == 0 && self.warmstart.steps > 0 {
            return fail("warmstart.trees", "the teacher has to roll out at least one tree");
        }
        if self.environment != EnvironmentName::TextCraft && self.world.source != "generated" {
            return fail(
                "world.source",
                "takes \"generated\" here: only TextCraft has tasks in files",
            );
        }
        if !self
            .world
            .windows
            .0
            .iter()
            .all(|windows| windows.is_finite() && *windows > 0.0)
        {
            return fail(
                "world.windows",
                "takes four finite numbers above 0, from easy to extreme",
            );
        }
        if !(2..=crate::environments::textcraft::vocabulary::SLOTS).contains(&self.agent.slots) {
            return fail("agent.slots", "takes 2 to 64");
        }
        if !(1..=1024).contains(&self.eval.trees) {
            return fail("eval.trees", "takes 1 to 1024");
        }
        for (path, limits) in [("limits", &self.limits), ("eval.limits", &self.eval.limits)] {
            if !(8..=CONTEXT_MAX).contains(&limits.context) {
                return fail(
                    path,
                    "`context` takes 8 to 4096 tokens: a prompt and an action must fit, and the policy's window",
                );
            }
            if limits.nodes == 0 || limits.steps == 0 || limits.tokens == 0 || limits.concurrent == 0 {
                return fail(path, "`nodes`, `steps`, `tokens` and `concurrent` take at least 1");
            }
            if limits.depth as usize >= rao_tree::credit::DEPTHS {
                return fail(path, "`depth` takes at most 63");
            }
            if !(limits.seconds > 0.0 && limits.seconds <= SECONDS_MAX) {
                return fail(path, "`seconds` takes a number above 0 and up to 1e6");
            }
        }
        if self.limits.context.min(self.eval.limits.context) < self.environment.window_min() {
            let message = "is too small a window for the least of what an agent has to do: take 29 for number-search, 35 for aggregation";
            return fail("limits.context", message);
        }
        Ok(())
    }
}
