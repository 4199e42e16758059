//! What is measured while training: one JSON object per step, written as it ends, and its numbers once more for TensorBoard.

use super::checkpoint::Stage;
use super::credit::TreeCredit;
use super::tensorboard::EventFiles;
use crate::backend::StepReport;
use crate::rollout::Rollout;
use rao_tree::credit::{CreditError, DEPTHS, Diagnostics};
use rao_tree::{Depth, Limit, Node, Success, WeightsVersion};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

/// `metrics.jsonl` of a run, and the event files of TensorBoard beside it.
pub struct Metrics {
    lines: BufWriter<File>,
    events: EventFiles,
}

impl Metrics {
    /// Opens the file, and the directory `tensorboard` beside it, and cuts both back to the lengths that [`sync`](Self::sync) gave, in bytes; nothing
    /// of them is left where these are 0 and none.
    ///
    /// # Errors
    /// One of them cannot be made or written, or is shorter than that: what was measured is lost.
    pub fn open(path: &Path, length: u64, events: &BTreeMap<Stage, u64>) -> io::Result<Self> {
        let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
        cut(&mut file, path, length)?;
        Ok(Self {
            lines: BufWriter::new(file),
            events: EventFiles::open(path.with_file_name("tensorboard"), events)?,
        })
    }

    /// Brings everything to the disk, and returns how long the files are.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> io::Result<(u64, BTreeMap<Stage, u64>)> {
        let lines = self.lines.get_ref();
        lines.sync_data()?;
        // Their names, too. Where the file lies is synchronised with the checkpoint.
        Ok((lines.metadata()?.len(), self.events.sync()?))
    }

    /// Appends one object and hands it to the operating system, so that a run that dies keeps what it measured. Its numbers go to TensorBoard if it
    /// says of which `phase` and `step` they are.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_value(line)?;
        serde_json::to_writer(&mut self.lines, &line)?;
        self.lines.write_all(b"\n")?;
        self.lines.flush()?;
        self.events.write(&line)
    }
}

/// Takes away what lies behind so many bytes, and goes on there.
///
/// # Errors
/// The file is shorter, or the system's.
pub(super) fn cut(file: &mut File, path: &Path, length: u64) -> io::Result<()> {
    let found = file.metadata()?.len();
    if found < length {
        let message = format!(
            "{}: has {found} bytes, and had {length} when the checkpoint was written: put it back, or remove the checkpoint",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    file.set_len(length)?;
    file.seek(io::SeekFrom::Start(length))?;
    Ok(())
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
    /// Contexts that began anew, over all contexts.
    pub restarts: f64,
    /// Share of the roots that succeeded, wholly.
    pub root_success: f64,
    /// Mean success of the roots: more than `root_success` where there is partial credit.
    pub root_credit: f64,
    /// Share of the nodes that succeeded, wholly.
    pub node_success: f64,
    /// Nodes per tree.
    pub nodes_per_tree: f64,
    /// Share of the nodes that launched a child.
    pub delegation: f64,
    /// Share of the launches that were made together with another.
    pub parallel: f64,
    /// How far roots are mere routers: mean share of a tree's work done below a lone child of the root.
    pub router_index: f64,
    /// Sampled tokens that had to be drawn one after the other, over all sampled tokens.
    pub critical_path: f64,
    /// Launches that were refused, by limit: only those that refused any.
    pub refused: BTreeMap<String, u32>,
    /// By depth, the share of the weighted advantage mass: how hard each depth pulls.
    pub advantage_mass: Vec<f64>,
    /// Groups that taught nothing: no advantage in them, or no root that counts.
    pub groups_skipped: usize,
    /// Trees whose root could not be judged: timed out, cancelled or invalid.
    pub unjudged: usize,
    /// Their share of all trees: see `rao.failed_max`.
    pub failed: f64,
    /// Environments that broke.
    pub faults: usize,
    /// Why a sampler's thread died in this step and was restarted. Null where none did.
    pub incident: Option<String>,
    /// Updates between the weights that drew the oldest tree and those of the first update.
    pub staleness: u64,
    /// Trees that were older than `rao.staleness_max`: not trained on, still compared with in the baselines.
    pub stale_dropped: usize,
    /// Mean |delta log p| of the first update, in nats: what sampler and learner differ by on the same weights while `staleness` is 0.
    /// Null in a step without an update.
    pub mismatch: Option<f64>,
    /// Mean importance ratio of the updates.
    pub ratio: f64,
    /// Mean absolute difference of log-probabilities between sampler and learner, in nats, mean over the updates: the second update of
    /// a step already finds other weights.
    pub logprob_delta: f64,
    /// Estimate of KL(sampler || learner) in nats, mean over the updates.
    pub kl: f64,
    /// Mean entropy of the distributions that the actions were drawn from, in nats.
    pub entropy: f64,
    /// Share of the actions whose importance ratio, or their node's, was clipped or masked.
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
    /// What the rollouts, their credit and the updates say of themselves; `now` is what the first update found, trees older than
    /// `staleness_max` were dropped. Where the step stands and what it took is the caller's to fill in.
    ///
    /// # Errors
    /// As [`Diagnostics::add`]: credit that is not that of the trees.
    pub(super) fn of(
        groups: &[Vec<Rollout>],
        credits: &[Vec<TreeCredit>],
        reports: &[StepReport],
        now: WeightsVersion,
        staleness_max: u64,
    ) -> Result<Self, CreditError> {
        let trees = || groups.iter().flatten();
        let nodes = || trees().flat_map(|rollout| rollout.tree.nodes());
        let ages = || trees().map(|tree| tree.staleness(now));
        let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
        let succeeded = |node: &&Node| node.success == Success::ONE;
        let mean = |of: fn(&StepReport) -> f64| mean_of(reports.iter().map(of));
        let mut of = Diagnostics::default();
        for (rollout, credit) in trees().zip(credits.iter().flatten()) {
            of.add(&rollout.tree, &credit.nodes)?;
        }
        let refused = Limit::ALL
            .iter()
            .map(|&limit| (limit.to_string(), of.refusals().by(limit)));
        let depths = (0..DEPTHS as u8)
            .map(Depth)
            .take_while(|&depth| of.level(depth).nodes > 0);
        Ok(Self {
            tokens: trees().map(Rollout::tokens).sum(),
            restarts: share(
                trees().map(|tree| tree.restarts() as usize).sum(),
                nodes().map(|node| 1 + usize::from(node.restarts)).sum(),
            ),
            root_success: share(trees().filter(|tree| tree.is_solved()).count(), trees().count()),
            root_credit: mean_of(trees().map(|tree| f64::from(tree.success()))),
            node_success: share(nodes().filter(succeeded).count(), nodes().count()),
            nodes_per_tree: share(nodes().count(), trees().count()),
            delegation: of.delegation_rate(),
            parallel: of.parallel_share(),
            router_index: of.router_index(),
            critical_path: of.critical_path_share(),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            advantage_mass: depths.map(|depth| of.mass_share(depth)).collect(),
            groups_skipped: credits
                .iter()
                .filter(|group| group.iter().all(|tree| !tree.teaches))
                .count(),
            unjudged: trees().filter(|tree| !tree.is_judged()).count(),
            failed: share(trees().filter(|tree| !tree.is_judged()).count(), trees().count()),
            faults: trees().map(|rollout| rollout.faults.len()).sum(),
            staleness: ages().max().unwrap_or(0),
            stale_dropped: ages().filter(|age| *age > staleness_max).count(),
            mismatch: reports.first().map(|report| report.logprob_delta),
            ratio: mean(|report| report.ratio),
            logprob_delta: mean(|report| report.logprob_delta),
            kl: mean(|report| report.kl),
            entropy: mean(|report| report.entropy),
            clipped: mean(|report| report.clipped),
            loss: mean(|report| report.loss),
            grad_norm: mean(|report| report.grad_norm),
            ..Self::default()
        })
    }

    /// The step in a few words, for a progress bar.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "root success {:.2}, {:.1} nodes a tree",
            self.root_success, self.nodes_per_tree
        )
    }
}

/// The mean; 0 of nothing.
fn mean_of(values: impl Iterator<Item = f64> + Clone) -> f64 {
    match values.clone().count() {
        0 => 0.0,
        count => values.sum::<f64>() / count as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::credit::assign;
    use super::super::credit::tests::{group, root};
    use super::*;
    use rao_tree::NodeStatus::Finished;
    use rao_tree::credit::Estimator;

    fn report(logprob_delta: f64, kl: f64, clipped: f64) -> StepReport {
        StepReport {
            loss: 0.0,
            grad_norm: 1.0,
            ratio: 1.0,
            clipped,
            logprob_delta,
            kl,
            entropy: 0.5,
            actions: 4,
            actions_computed: 4,
            tokens_computed: 9,
        }
    }

    #[test]
    fn the_mismatch_is_that_of_the_first_update_and_the_age_that_of_the_oldest_tree() {
        let mut groups = [group(&[&[root(Finished, 0.0)], &[root(Finished, 1.0)]])];
        groups[0][0].weights = WeightsVersion(3);
        groups[0][1].weights = WeightsVersion(8);
        let credits = assign(&Estimator::default(), &groups).unwrap();
        let reports = [report(0.25, 0.125, 0.5), report(0.75, 0.375, 0.0)];
        let of = |reports: &[StepReport], now, max| StepMetrics::of(&groups, &credits, reports, now, max).unwrap();
        let step = of(&reports, WeightsVersion(8), 4);
        assert_eq!((step.mismatch, step.logprob_delta), (Some(0.25), 0.5));
        assert_eq!((step.kl, step.clipped), (0.25, 0.25));
        assert_eq!((step.staleness, step.stale_dropped), (5, 1));
        assert_eq!(of(&reports, WeightsVersion(8), 5).stale_dropped, 0);
        assert_eq!(of(&[], WeightsVersion(8), 5).mismatch, None, "nothing was compared");
    }
}
