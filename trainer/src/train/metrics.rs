//! What is measured while training: one JSON object per step, written as it ends.

use super::credit::TreeCredit;
use crate::backend::StepReport;
use crate::rollout::Rollout;
use rao_tree::Node;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// `metrics.jsonl` of a run.
pub struct Metrics(BufWriter<File>);

impl Metrics {
    /// Begins a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create_new(path)?)))
    }

    /// Appends one object and hands it to the operating system, so that a run that dies keeps what it measured.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}

/// One step of optimization.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepMetrics {
    /// The arm.
    pub phase: &'static str,
    /// Counts from 0.
    pub step: usize,
    /// Environment tokens so far: read and sampled.
    pub tokens_total: u64,
    /// Environment tokens of this step.
    pub tokens: u64,
    /// Share of the roots that succeeded.
    pub root_success: f64,
    /// Share of the nodes that succeeded.
    pub node_success: f64,
    /// Nodes per tree.
    pub nodes_per_tree: f64,
    /// Share of the nodes that launched a child.
    pub delegation: f64,
    /// Sampled tokens that had to be drawn one after the other, over all sampled tokens.
    pub critical_path: f64,
    /// Groups that taught nothing: no advantage in them, or no root that counts.
    pub groups_skipped: usize,
    /// Trees whose root could not be judged: timed out, cancelled or invalid.
    pub unjudged: usize,
    /// Environments that broke.
    pub faults: usize,
    /// Mean importance ratio of the updates.
    pub ratio: f64,
    /// Mean absolute difference of log-probabilities between sampler and learner.
    pub logprob_delta: f64,
    /// Mean entropy of the distributions that the actions were drawn from, in nats.
    pub entropy: f64,
    /// Share of the actions whose importance ratio was clipped.
    pub clipped: f64,
    /// Loss, mean over the updates.
    pub loss: f64,
    /// Norm of the gradient before clipping, mean over the updates.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Wall clock of the rollouts.
    pub rollout_seconds: f64,
    /// Wall clock of credit, updates and publishing.
    pub train_seconds: f64,
}

impl StepMetrics {
    /// What the rollouts, their credit and the updates say of themselves; where the step stands and what it took is the caller's to fill in.
    pub(super) fn of(groups: &[Vec<Rollout>], credits: &[Vec<TreeCredit>], reports: &[StepReport]) -> Self {
        let trees = || groups.iter().flatten();
        let nodes = || trees().flat_map(|rollout| rollout.tree.nodes());
        let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
        let succeeded = |node: &&Node| node.success.value() > 0.0;
        let mean = |of: fn(&StepReport) -> f64| {
            if reports.is_empty() {
                0.0
            } else {
                reports.iter().map(of).sum::<f64>() / reports.len() as f64
            }
        };
        let sampled: u64 = trees().map(Rollout::sampled).sum();
        let path: u64 = trees().map(Rollout::critical_path).sum();
        Self {
            tokens: trees().map(Rollout::tokens).sum(),
            root_success: share(trees().filter(|tree| tree.success() > 0.0).count(), trees().count()),
            node_success: share(nodes().filter(succeeded).count(), nodes().count()),
            nodes_per_tree: share(nodes().count(), trees().count()),
            delegation: share(nodes().filter(|node| node.children > 0).count(), nodes().count()),
            critical_path: share(path as usize, sampled as usize),
            groups_skipped: credits
                .iter()
                .filter(|group| group.iter().all(|tree| !tree.teaches))
                .count(),
            unjudged: trees().filter(|tree| !tree.is_judged()).count(),
            faults: trees().map(|rollout| rollout.faults.len()).sum(),
            ratio: mean(|report| report.ratio),
            logprob_delta: mean(|report| report.logprob_delta),
            entropy: mean(|report| report.entropy),
            clipped: mean(|report| report.clipped),
            loss: mean(|report| report.loss),
            grad_norm: mean(|report| report.grad_norm),
            ..Self::default()
        }
    }

    /// The step in a few words, for a progress bar.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "root success {:.2}, nodes {:.2}, {:.1} nodes a tree",
            self.root_success, self.node_success, self.nodes_per_tree
        )
    }
}
