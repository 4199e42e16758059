//! What a person sees while work goes on: one bar per phase on a terminal, nothing where there is none.

use indicatif::{ProgressBar, ProgressStyle};

/// A stretch of work with a name and a known length.
pub struct Phase(ProgressBar);

impl Phase {
    /// Begins a phase of `length` units.
    #[must_use]
    pub fn begin(name: &'static str, length: u64) -> Self {
        // Draws to standard error, and only if that is a terminal.
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("{prefix:>12} {bar:30} {pos:>4}/{len} {elapsed:>4}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name);
        Self(bar)
    }

    /// Where the work is, and a few words about it.
    pub fn set(&self, position: u64, message: &str) {
        self.0.set_position(position);
        self.0.set_message(message.to_owned());
    }

    /// A line above the bar that stays, on standard error; unlike the bar also where that is no terminal.
    pub fn warn(&self, message: &str) {
        self.0.suspend(|| eprintln!("rao: warning: {message}"));
    }

    /// The phase is over; its last line stays.
    pub fn end(self, message: &str) {
        self.0.set_length(self.0.position());
        self.0.finish_with_message(message.to_owned());
    }
}
