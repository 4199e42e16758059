//! Trees that a run keeps, so that people can look at them: `traces/` of its directory, event logs with the credit that training used beside them.

use crate::report::tree::Credits;
use crate::rollout::Rollout;
use crate::run::{RunDir, RunError, write_whole};
use crate::train::credit::TreeCredit;
use std::path::{Path, PathBuf};

/// Writes recorded trees.
#[derive(Clone, Debug)]
pub struct Recorder {
    folder: PathBuf,
    groups: usize,
}

impl Recorder {
    /// Keeps `groups` groups of trees of every arm that is trained; 0 keeps nothing at all.
    #[must_use]
    pub fn new(run: &RunDir, groups: usize) -> Self {
        Self {
            folder: run.path().join("traces"),
            groups,
        }
    }

    /// Whether trees are kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.groups > 0
    }

    /// Whether a group is due at `position` of `steps`, when `recorded` have been kept: the first step, the last, and what lies evenly between.
    #[must_use]
    pub fn is_due(&self, recorded: usize, position: f64, steps: usize) -> bool {
        let last = steps.saturating_sub(1) as f64;
        let due = match self.groups {
            1 => last,
            groups => recorded as f64 * last / (groups.max(2) - 1) as f64,
        };
        recorded < self.groups && position >= due
    }

    /// Keeps the trees of one root task, which were rolled out with their logs.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn group(&self, arm: &str, step: usize, trees: &[Rollout], credits: &[TreeCredit]) -> Result<(), RunError> {
        let name = format!("{arm}-step-{step:04}");
        let log: Vec<u8> = trees.iter().flat_map(|tree| tree.log.iter().copied()).collect();
        let column = |tree: &TreeCredit, of: fn(&rao_tree::credit::Credit) -> f32| {
            Some(tree.nodes.iter().map(of).collect::<Vec<f32>>())
        };
        let credit = |tree: &TreeCredit| Credits {
            reward: column(tree, |credit| credit.reward),
            advantage: column(tree, |credit| credit.advantage),
            weighted: column(tree, |credit| credit.weighted),
        };
        let credits: Vec<Credits> = credits.iter().map(credit).collect();
        let path = self.path(&name, "json")?;
        let credits = serde_json::to_vec(&credits).map_err(|source| RunError::Json {
            path: path.clone(),
            source,
        })?;
        // The log last: a log without its credit would look as if nothing had been trained on it.
        write_whole(&path, &credits)?;
        write_whole(&self.path(&name, "rao")?, &log)
    }

    /// Keeps one tree that nothing was trained on.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn tree(&self, name: &str, tree: &Rollout) -> Result<(), RunError> {
        write_whole(&self.path(name, "rao")?, &tree.log)
    }

    fn path(&self, name: &str, extension: &str) -> Result<PathBuf, RunError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Io { path, source }
        };
        std::fs::create_dir_all(&self.folder).map_err(io(&self.folder))?;
        Ok(self.folder.join(format!("{name}.{extension}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_over_the_steps() {
        let steps = |groups: usize, steps: usize| {
            let recorder = Recorder {
                folder: PathBuf::new(),
                groups,
            };
            let mut due = Vec::new();
            for step in 0..steps {
                if recorder.is_due(due.len(), step as f64, steps) {
                    due.push(step);
                }
            }
            due
        };
        assert_eq!(steps(4, 60), [0, 20, 40, 59]);
        assert_eq!(steps(2, 60), [0, 59]);
        assert_eq!(steps(1, 60), [59]);
        assert_eq!(steps(0, 60), [] as [usize; 0]);
        assert_eq!(steps(4, 3), [0, 1, 2]);
        assert_eq!(steps(4, 1), [0]);
    }
}
