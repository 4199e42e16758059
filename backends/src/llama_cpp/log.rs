//! llama.cpp says why something failed in its log only.

use llama_cpp_sys_2::{GGML_LOG_LEVEL_CONT, GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_WARN, ggml_log_level};
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const LINES_MAX: usize = 8;

struct Log {
    lines: VecDeque<String>,
    /// Whether the last message was kept: continuations follow it.
    keeping: bool,
}

static LOG: Mutex<Log> = Mutex::new(Log {
    lines: VecDeque::new(),
    keeping: false,
});

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, warnings and errors are kept for [`reason`], and the rest is dropped.
pub(super) fn capture() {
    // SAFETY: the callback is a function without state and lives as long as the process.
    unsafe {
        llama_cpp_sys_2::llama_log_set(Some(keep), std::ptr::null_mut());
        llama_cpp_sys_2::ggml_log_set(Some(keep), std::ptr::null_mut());
    }
}

unsafe extern "C" fn keep(level: ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends with a zero and is valid during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let mut log = log();
    let goes_on = level == GGML_LOG_LEVEL_CONT;
    if !goes_on {
        log.keeping = level == GGML_LOG_LEVEL_ERROR || level == GGML_LOG_LEVEL_WARN;
    }
    if !log.keeping {
        return;
    }
    match log.lines.back_mut() {
        Some(line) if goes_on => line.push_str(&text),
        _ => {
            if log.lines.len() == LINES_MAX {
                log.lines.pop_front();
            }
            log.lines.push_back(text.into_owned());
        }
    }
}

/// Forgets what was said so far.
pub(super) fn clear() {
    log().lines.clear();
}

/// What was said since [`clear`], in one line.
pub(super) fn reason() -> String {
    let lines: Vec<String> = log().lines.drain(..).collect();
    let words: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    if words.is_empty() {
        "it gives no reason".to_owned()
    } else {
        words.join("; ")
    }
}
