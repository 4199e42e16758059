//! Trees that fail teach nothing. When too many do, something is broken, and going on would only hide it.

use super::TrainError;
use crate::rollout::Rollout;
use std::collections::BTreeMap;

/// Ends the run if more of a step's trees failed than may.
///
/// # Errors
/// [`TrainError::Failures`] says how many, and what most of them say.
pub(super) fn check(arm: &'static str, step: usize, groups: &[Vec<Rollout>], max: f64) -> Result<(), TrainError> {
    let trees = groups.iter().flatten();
    let (trees, failed) = (
        trees.clone().count(),
        trees.clone().filter(|tree| !tree.is_judged()).count(),
    );
    if failed as f64 <= max * trees as f64 {
        return Ok(());
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in groups.iter().flatten().flat_map(|tree| &tree.faults) {
        *counts.entry(fault).or_default() += 1;
    }
    // The first of several in the order of the alphabet.
    let cause = counts.iter().rev().max_by_key(|(_, count)| **count);
    Err(TrainError::Failures {
        arm,
        step,
        failed,
        trees,
        max,
        cause: cause.map(|(fault, _)| (*fault).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::credit::tests::{group, root};
    use super::*;
    use rao_tree::NodeStatus::{Finished, Invalid, TimedOut};

    #[test]
    fn more_failures_than_may_be_end_the_run_and_say_why() {
        let trees = [
            [root(Finished, 1.0)],
            [root(Invalid, 0.0)],
            [root(TimedOut, 0.0)],
            [root(Finished, 0.0)],
        ];
        let trees: Vec<&[_]> = trees.iter().map(|tree| &tree[..]).collect();
        let mut groups = [group(&trees)];
        check("recursive", 3, &groups, 0.5).unwrap();
        let error = check("recursive", 3, &groups, 0.25).unwrap_err().to_string();
        assert!(
            error.starts_with("2 of 4 trees of step 3 of recursive failed"),
            "{error}"
        );
        assert!(error.contains("still under way after limits.seconds"), "{error}");
        groups[0][1].faults = ["disk on fire", "no luck", "disk on fire"].map(str::to_owned).to_vec();
        let error = check("recursive", 3, &groups, 0.0).unwrap_err().to_string();
        assert!(error.contains("most often: disk on fire."), "{error}");
    }
}
