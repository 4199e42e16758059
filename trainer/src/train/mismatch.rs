//! Sampler and learner should give the same tokens the same probability. Says so when they do not.

/// Watches one arm, and speaks once in a while: when the mismatch first passes the limit, and whenever it has doubled since.
pub(super) struct MismatchWatch {
    limit: f64,
    /// The mismatch that was warned of last.
    pub(super) warned: Option<f64>,
}

impl MismatchWatch {
    /// A watch with a limit in nats, infinity never warns; and the mismatch that was warned of last, if one was.
    pub(super) fn new(limit: f64, warned: Option<f64>) -> Self {
        Self { limit, warned }
    }

    /// Takes in the mismatch of a step, mean |delta log p| of its first update in nats, and returns what there is to say.
    pub(super) fn observe(&mut self, mismatch: f64) -> Option<String> {
        let due = mismatch > self.limit && self.warned.is_none_or(|warned| mismatch >= 2.0 * warned);
        due.then(|| {
            self.warned = Some(mismatch);
            format!(
                "sampler and learner differ by {mismatch:.3e} nats a token (rao.mismatch_warn is {}): the policy learns from tokens that \
                 another policy drew, and its gradient is biased by what rao.correction does not make up for. Use a less coarse \
                 rollout.quant, or a rao.correction that drops what differs most, such as token-mask with rao.ratio_low=0.5 and \
                 rao.ratio_clip=2",
                self.limit
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_at_first_and_when_the_mismatch_has_doubled() {
        let mut watch = MismatchWatch::new(0.1, None);
        let spoke: Vec<bool> = [0.02, 0.1, 0.11, 0.12, 0.21, 0.22, 0.3, 0.05, 0.45, 0.44, 0.9]
            .map(|mismatch| watch.observe(mismatch).is_some())
            .to_vec();
        let expected = [false, false, true, false, false, true, false, false, true, false, true];
        assert_eq!(spoke, expected);
    }

    #[test]
    fn it_says_how_much_and_what_to_do() {
        let said = MismatchWatch::new(0.1, None).observe(0.25).unwrap();
        for part in [
            "2.500e-1 nats",
            "rao.mismatch_warn is 0.1",
            "rollout.quant",
            "rao.correction",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(MismatchWatch::new(f64::INFINITY, None).observe(9.0), None);
        // The limit is no mismatch: two that agree to the last bit are never warned of.
        assert_eq!(MismatchWatch::new(0.0, None).observe(0.0), None);
    }
}
