//! Credit assignment: the paper's numbers, the table of endings, every estimator side by side, and what holds for all forests.

mod diagnostics;
mod endings;
mod errors;
mod forest;
mod golden;
mod oracle;
mod properties;
#[path = "../common/random.rs"]
mod random;
mod table;
