//! The result table of a run, beside the paper's published row.

use crate::environments::{Difficulty, EnvironmentName};
use crate::evaluate::{Score, Scores};
use crate::run::Summary;
use serde::Serialize;
use std::fmt::Write;

/// Success of the paper's agents on 100 held-out tasks, greedy, trained with RAO in an 8K context on the 852 medium tasks (arXiv 2605.06639).
/// It publishes no figure for extreme tasks, and for the single agent only that of hard ones.
const PAPER: [(&str, Difficulty, f64); 4] = [
    ("recursive", Difficulty::Easy, 1.00),
    ("recursive", Difficulty::Medium, 0.96),
    ("recursive", Difficulty::Hard, 0.88),
    ("flat", Difficulty::Hard, 0.00),
];

/// A figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// `recursive` or `flat`.
    pub kind: &'static str,
    /// Of these tasks.
    pub difficulty: Difficulty,
    /// Share that is solved greedily.
    pub greedy: f64,
}

/// Success of the paper's agents on 100 held-out tasks of TextCraft-Synth.
#[must_use]
pub fn published() -> Vec<Published> {
    let of = |&(kind, difficulty, greedy): &(&'static str, _, _)| Published {
        kind,
        difficulty,
        greedy,
    };
    PAPER.iter().map(of).collect()
}

/// Where there is a published row it is shown; elsewhere the mean success of the greedy trees, which partial credit makes more than `greedy`.
fn header(environment: Option<EnvironmentName>) -> String {
    let column = if is_published(environment) { "paper" } else { "credit" };
    let width = width(environment);
    format!(
        "arm        {:<width$}    n  greedy    T=1 {column:>7}     nodes    (max)     tokens  crit. path  s/task\n",
        "tasks"
    )
}

/// Characters of the column of tasks: where they are measured in windows, how many these are is said.
fn width(environment: Option<EnvironmentName>) -> usize {
    match environment {
        Some(EnvironmentName::TextCraft) | None => 10,
        Some(EnvironmentName::NumberSearch | EnvironmentName::Aggregation) => 14,
    }
}

/// The table of a run: arm by difficulty.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let environment = Some(summary.environment);
    let mut out = header(environment);
    rows(&mut out, environment, "recursive", &summary.recursive);
    if let Some(flat) = &summary.flat {
        rows(&mut out, environment, "flat", flat);
    }
    out
}

/// Whether the paper's figures are about this: its game, in the compact tokens of `environment`.
fn is_published(environment: Option<EnvironmentName>) -> bool {
    environment == Some(EnvironmentName::TextCraft)
}

/// The table of one arm. `None` are agents that speak, of whatever kind of work.
#[must_use]
pub fn arm(environment: Option<EnvironmentName>, name: &str, scores: &Scores) -> String {
    let mut out = header(environment);
    rows(&mut out, environment, name, scores);
    out
}

fn rows(out: &mut String, environment: Option<EnvironmentName>, arm: &str, scores: &Scores) {
    for difficulty in Difficulty::ALL {
        let Some(score) = scores.of(difficulty) else { continue };
        let Score {
            tasks,
            unjudged,
            faults,
            greedy,
            credit,
            t1,
            nodes,
            nodes_max,
            tokens,
            critical_path,
            seconds,
            windows,
        } = score;
        let label = match windows {
            Some(windows) => format!("{difficulty} {windows}x"),
            None => difficulty.name().to_owned(),
        };
        let width = width(environment);
        let paper = PAPER.iter().find(|(name, of, _)| *name == arm && *of == difficulty);
        let beside = match (is_published(environment), paper) {
            (true, Some((.., success))) => format!("{success:.2}"),
            (true, None) => "-".into(),
            (false, _) => format!("{credit:.2}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{arm:<10} {label:<width$} {tasks:>4}  {greedy:>6.2} {t1:>6.2} {beside:>7} {nodes:>9.1} {nodes_max:>8} \
             {tokens:>10.0} {critical_path:>11.0} {seconds:>7.3}",
        );
        if unjudged + faults > 0 {
            let trees = 2 * tasks;
            let _ = writeln!(
                out,
                "           {unjudged} of {trees} trees could not be judged, {faults} environments broke"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_readable() {
        let score = |greedy, nodes| Score {
            tasks: 100,
            greedy,
            t1: 0.9 * greedy,
            nodes,
            nodes_max: 3 * nodes as usize,
            ..Score::default()
        };
        let broken = Score {
            unjudged: 3,
            faults: 1,
            tokens: 157_492.4,
            critical_path: 3592.0,
            seconds: 0.7333,
            ..score(0.75, 9066.1)
        };
        let recursive = Scores {
            easy: Some(score(1.0, 3.76)),
            hard: Some(score(0.94, 336.5)),
            extreme: Some(broken),
            ..Scores::default()
        };
        let flat = Some(Scores {
            hard: Some(score(0.0, 1.0)),
            ..Scores::default()
        });
        let summary = Summary {
            environment: EnvironmentName::TextCraft,
            recursive,
            flat,
            train_seconds: 13.0,
            total_seconds: 30.0,
            seed: 0,
            memory_predicted: 0,
            memory_peak: None,
        };
        insta::assert_snapshot!(render(&summary));
    }
}
