//! Every estimator over the same two groups, as a table that a person can check.

use crate::forest::*;
use rao_tree::credit::Credit;
use rao_tree::{Limit, NodeStatus};
use std::fmt::Write as _;

/// The golden group, and one in which things went wrong.
fn batch() -> Vec<Vec<Tree>> {
    let troubled = vec![
        tree(&[
            finished(None, 0.5),
            ended(Some(0), NodeStatus::Failed, 0.0),
            ended(Some(0), NodeStatus::Truncated(Limit::Steps), 0.0),
            ended(Some(0), NodeStatus::TimedOut, 0.0),
            finished(Some(1), 1.0),
            node(Some(0), None, 0.0),
        ]),
        tree(&[ended(None, NodeStatus::Invalid, 0.0), finished(Some(0), 1.0)]),
        tree(&[
            ended(None, NodeStatus::Truncated(Limit::Tokens), 0.0),
            ended(Some(0), NodeStatus::Cancelled, 0.0),
        ]),
    ];
    vec![golden(), troubled]
}

fn render(cell: impl Fn(&Credit) -> f32) -> String {
    let batch = batch();
    let columns = estimators();
    let mut out = format!("{:<42}", "node");
    for (name, _) in &columns {
        let _ = write!(out, "{name:>10}");
    }
    let credits: Vec<_> = columns
        .iter()
        .map(|(_, estimator)| credits(estimator, &batch))
        .collect();
    for (g, group) in batch.iter().enumerate() {
        for (t, tree) in group.iter().enumerate() {
            let _ = write!(out, "\ngroup {g} tree {t}");
            for (n, node) in tree.iter().enumerate() {
                let indent = "  ".repeat(usize::from(node.depth.0) + 1);
                let status = node.status.map_or("running".into(), |status| format!("{status:?}"));
                let label = format!("{indent}{n} {status} {}", node.success.value());
                let _ = write!(out, "\n{label:<42}");
                for credits in &credits {
                    // Adding zero turns -0 into 0.
                    let _ = write!(out, "{:>10.4}", cell(&credits[g][t][n]) + 0.0);
                }
            }
        }
    }
    out
}

#[test]
fn rewards() {
    insta::assert_snapshot!(render(|credit| credit.reward));
}

#[test]
fn advantages() {
    insta::assert_snapshot!(render(|credit| credit.advantage));
}

#[test]
fn weighted_advantages() {
    insta::assert_snapshot!(render(|credit| credit.weighted));
}
