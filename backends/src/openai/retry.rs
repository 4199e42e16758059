//! When a request is tried again.

use crate::random::uniform;
use std::time::{Duration, SystemTime};

/// Whether the same request may well be answered when it is sent again: the server is busy, starting, or has stumbled.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

/// The pause before retry number `retry` (from 0): uniform below the bound, which doubles with each ("full jitter", Marc Brooker, "Exponential
/// Backoff and Jitter", AWS Architecture Blog, 2015), so that clients that failed together do not come back together.
pub(super) fn pause(first: Duration, longest: Duration, retry: u32, seed: u64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(retry));
    doubled.min(longest).mul_f64(uniform(seed, retry as usize))
}

/// What a `Retry-After` asks for: seconds, or a date. Nothing where it is neither, or has passed.
pub(super) fn wish(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(header).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_drawn_below_a_bound_that_doubles() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        for (retry, bound_ms) in [(0, 100), (1, 200), (4, 1600), (5, 2000), (40, 2000)] {
            let bound = Duration::from_millis(bound_ms);
            let pauses: Vec<Duration> = (0..200).map(|seed| pause(first, longest, retry, seed)).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound));
            // All over the range, not around its end.
            for tenth in 0..10 {
                let within = bound * tenth / 10..bound * (tenth + 1) / 10;
                assert!(pauses.iter().any(|pause| within.contains(pause)), "{retry}: {within:?}");
            }
        }
        assert_eq!(pause(Duration::ZERO, longest, 3, 1), Duration::ZERO);
    }

    #[test]
    fn the_wish_of_a_server_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (header, seconds) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", None),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(wish(header, now), seconds.map(Duration::from_secs), "{header:?}");
        }
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let passing = [408, 409, 425, 429, 500, 502, 503, 504, 529];
        assert!(passing.into_iter().all(is_passing));
        assert!(
            ![200, 301, 400, 401, 402, 403, 404, 413, 422]
                .into_iter()
                .any(is_passing)
        );
    }
}
