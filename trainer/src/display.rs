//! What a person sees while work goes on: one bar per phase on a terminal, nothing where there is none.

use crate::rollout::Progress;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a bar looks at what is under way: often enough to seem alive.
const TICK: Duration = Duration::from_millis(200);
/// What tokens per second are the mean of: long enough to be read, short enough to show that something stands still.
const WINDOW: Duration = Duration::from_secs(5);

/// A stretch of work with a name and a known length. Its bar says what was [said](Self::say) last and, while a step is under way too, how many trees
/// are, how many tokens they read and sample a second, and about when the work will be done.
pub struct Phase {
    bar: ProgressBar,
    said: Arc<Mutex<String>>,
    /// None where nobody sees the bar.
    ticker: Option<Ticker>,
}

impl Phase {
    /// Begins a phase of so many steps, which [`set`](Self::set) counts.
    #[must_use]
    pub fn of_steps(name: &'static str, steps: u64, progress: &Arc<Progress>) -> Self {
        Self::begin(name, steps, progress, |_| None)
    }

    /// Begins a phase of so many trees, which are counted as they end.
    #[must_use]
    pub fn of_trees(name: &'static str, trees: u64, progress: &Arc<Progress>) -> Self {
        let before = progress.trees();
        Self::begin(name, trees, progress, move |progress| Some(progress.trees() - before))
    }

    fn begin(
        name: &'static str,
        length: u64,
        progress: &Arc<Progress>,
        position: impl Fn(&Progress) -> Option<u64> + Send + 'static,
    ) -> Self {
        // Draws to standard error, and only if that is a terminal.
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("{prefix:>12} {bar:20} {pos:>4}/{len} {elapsed:>4}{left}  {wide_msg}")
            .map(|style| style.with_key("left", left));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name);
        let said = Arc::new(Mutex::new(String::new()));
        let ticker = if bar.is_hidden() {
            None
        } else {
            let (bar, said, progress) = (bar.clone(), Arc::clone(&said), Arc::clone(progress));
            let (started, mut rate) = (Instant::now(), Rate::default());
            Ticker::start(move || {
                if let Some(position) = position(&progress) {
                    bar.set_position(position);
                }
                let rate = rate.observe(started.elapsed(), progress.tokens());
                let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                bar.set_message(message(&said, progress.in_flight(), rate));
            })
        };
        Self { bar, said, ticker }
    }

    /// Where the work is, and a few words about it.
    pub fn set(&self, position: u64, message: &str) {
        self.say(message);
        self.bar.set_position(position);
    }

    /// A few words about the work.
    pub fn say(&self, message: &str) {
        message.clone_into(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A line above the bar that stays, on standard error; unlike the bar also where that is no terminal.
    pub fn warn(&self, message: &str) {
        self.bar.suspend(|| eprintln!("rao: warning: {message}"));
    }

    /// The phase is over; its last line stays.
    pub fn end(mut self, message: &str) {
        // First, so that it does not draw over the last line.
        self.ticker = None;
        self.bar.set_length(self.bar.position());
        self.bar.finish_with_message(message.to_owned());
    }
}

/// A thread that does something every [`TICK`], and a last time when it is dropped.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// None where there is no thread to be had: work goes on without.
    fn start(mut tick: impl FnMut() + Send + 'static) -> Option<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let ticks = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
            tick();
        };
        let thread = thread::Builder::new().name("rao-display".into()).spawn(ticks).ok()?;
        Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A bar that could not be drawn is no reason to end the work.
            let _ = thread.join();
        }
    }
}

/// Tokens per second over the last [`WINDOW`].
#[derive(Default)]
struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// The rate at a time at which so many tokens have been counted.
    fn observe(&mut self, at: Duration, tokens: u64) -> f64 {
        self.0.push_back((at, tokens));
        // The oldest that is kept is the last that is as old as the window.
        while self.0.get(1).is_some_and(|(next, _)| *next + WINDOW <= at) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(&(since, before)) if since < at => (tokens - before) as f64 / (at - since).as_secs_f64(),
            _ => 0.0,
        }
    }
}

/// What was said last, and what is under way. That comes after it, because it comes and goes.
fn message(said: &str, trees: u64, tokens_per_second: f64) -> String {
    let mut words = said.to_owned();
    let mut add = |more: &str| {
        if !words.is_empty() {
            words += ", ";
        }
        words += more;
    };
    match trees {
        0 => {}
        1 => add("1 tree in flight"),
        trees => add(&format!("{} trees in flight", HumanCount(trees))),
    }
    if tokens_per_second >= 1.0 {
        add(&format!("{} tokens/s", HumanCount(tokens_per_second as u64)));
    }
    words
}

/// The time left, once there is something to tell it from.
fn left(state: &ProgressState, out: &mut dyn fmt::Write) {
    if state.pos() > 0 && !state.is_finished() {
        // Writing to a string does not fail.
        let _ = write!(out, ", {:#} left", HumanDuration(state.eta()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_there_is_to_say() {
        assert_eq!(message("", 0, 0.0), "");
        assert_eq!(message("", 1, 0.9), "1 tree in flight");
        assert_eq!(
            message("root success 0.50", 1024, 123_456.7),
            "root success 0.50, 1,024 trees in flight, 123,456 tokens/s"
        );
        assert_eq!(message("cross-entropy 0.100", 0, 0.0), "cross-entropy 0.100");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let mut at = |seconds, tokens| rate.observe(Duration::from_secs(seconds), tokens);
        assert_eq!(at(1, 70), 0.0, "nothing to compare with");
        assert_eq!(at(3, 90), 10.0);
        assert_eq!(at(6, 120), 10.0, "five seconds");
        assert_eq!(at(8, 220), 26.0, "since the third");
        assert_eq!(at(13, 220), 0.0, "nothing since the eighth");
    }

    #[test]
    fn what_was_counted_before_a_rate_began_is_no_part_of_it() {
        let mut rate = Rate::default();
        for second in 0..100 {
            let found = rate.observe(Duration::from_secs(second), 1_000_000 + 7 * second);
            assert_eq!(found, if second == 0 { 0.0 } else { 7.0 });
            assert!(rate.0.len() <= 6, "what is older than the window is dropped");
        }
    }

    #[test]
    fn a_bar_that_nobody_sees_takes_no_thread() {
        let progress = Arc::new(Progress::default());
        let phase = Phase::of_steps("test", 3, &progress);
        assert_eq!(phase.ticker.is_some(), console::user_attended_stderr());
        phase.set(2, "two of three");
        assert_eq!(phase.bar.position(), 2);
        phase.end("");
        assert_eq!(Arc::strong_count(&progress), 1, "the thread has ended");
    }

    #[test]
    fn a_ticker_ticks_a_last_time_as_it_ends() {
        let ticks = Arc::new(Mutex::new(0));
        let count = Arc::clone(&ticks);
        drop(Ticker::start(move || *count.lock().unwrap() += 1));
        assert!(*ticks.lock().unwrap() >= 1);
        assert_eq!(Arc::strong_count(&ticks), 1, "its thread is gone");
    }
}
