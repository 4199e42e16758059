//! What a node was asked, in words.

use rao_tree::Environment;
use std::fmt;

/// Longest description of a task, in bytes. It is for people to read, so what is longer is cut, not refused.
const TASK_MAX: usize = 64 << 10;
/// Stands where something was cut.
const CUT: &str = "…";

/// Text up to [`TASK_MAX`]; what is written past it is left out.
#[derive(Default)]
pub(super) struct Words {
    text: String,
    is_cut: bool,
}

impl Words {
    /// What the environment says of its task; as much as it says before it fails.
    pub(super) fn of<E: Environment>(environment: &E) -> String {
        let mut words = Self::default();
        let _ = environment.describe(&mut words);
        words.text
    }
}

impl fmt::Write for Words {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.is_cut {
            return Ok(());
        }
        let room = TASK_MAX - CUT.len() - self.text.len();
        let kept = more.floor_char_boundary(room);
        self.text.push_str(&more[..kept]);
        if kept < more.len() {
            self.is_cut = true;
            self.text.push_str(CUT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn what_is_too_long_is_cut_between_two_letters() {
        let mut words = Words::default();
        words.write_str("ab").unwrap();
        for _ in 0..TASK_MAX / 3 {
            words.write_str("äöü").unwrap();
        }
        let Words { text, is_cut } = words;
        assert!(is_cut && text.ends_with(CUT));
        assert!((TASK_MAX - 2..=TASK_MAX).contains(&text.len()), "{}", text.len());
        let mut words = Words::default();
        words.write_str("short").unwrap();
        assert_eq!((words.text.as_str(), words.is_cut), ("short", false));
    }
}
