//! Credit assignment: the paper's numbers, the table of endings, every estimator side by side, and what holds for all forests.

mod endings;
mod errors;
mod forest;
mod golden;
mod oracle;
mod properties;
mod table;
