//! The result table of a run, beside the paper's published row.

use crate::environments::textcraft::Difficulty;
use crate::evaluate::{Score, Scores};
use crate::run::Summary;
use std::fmt::Write;

/// Success of the paper's agents on 100 held-out tasks, greedy, trained with RAO in an 8K context on the 852 medium tasks (arXiv 2605.06639).
/// It publishes no figure for extreme tasks, and for the single agent only that of hard ones.
const PAPER: [(&str, Difficulty, f64); 4] = [
    ("recursive", Difficulty::Easy, 1.00),
    ("recursive", Difficulty::Medium, 0.96),
    ("recursive", Difficulty::Hard, 0.88),
    ("flat", Difficulty::Hard, 0.00),
];

const HEADER: &str =
    "arm        tasks         n  greedy    T=1   paper     nodes    (max)     tokens  crit. path  s/task\n";

/// The table of a run: arm by difficulty.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let mut out = HEADER.to_owned();
    rows(&mut out, "recursive", &summary.recursive);
    if let Some(flat) = &summary.flat {
        rows(&mut out, "flat", flat);
    }
    out
}

/// The table of one arm.
#[must_use]
pub fn arm(name: &str, scores: &Scores) -> String {
    let mut out = HEADER.to_owned();
    rows(&mut out, name, scores);
    out
}

fn rows(out: &mut String, arm: &str, scores: &Scores) {
    for difficulty in Difficulty::ALL {
        let Score {
            tasks,
            greedy,
            t1,
            nodes,
            nodes_max,
            tokens,
            critical_path,
            seconds,
        } = scores.of(difficulty);
        if *tasks == 0 {
            continue;
        }
        let paper = PAPER.iter().find(|(name, of, _)| *name == arm && *of == difficulty);
        let paper = paper.map_or_else(|| "-".into(), |(.., success)| format!("{success:.2}"));
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{arm:<10} {difficulty:<10} {tasks:>4}  {greedy:>6.2} {t1:>6.2} {paper:>7} {nodes:>9.1} {nodes_max:>8} \
             {tokens:>10.0} {critical_path:>11.0} {seconds:>7.3}",
            difficulty = difficulty.name(),
        );
    }
}
