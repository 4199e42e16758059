//! The learning rate over a run.

use crate::config::Rao;

/// The learning rate of a step: a linear rise over `lr_warmup` steps, `lr`, and from `lr_decay_from` a linear fall to `lr_final` at the end.
///
/// `step` counts from 0 and may be fractional: the flat twin measures its progress in environment tokens.
#[must_use]
pub fn learning_rate(rao: &Rao, step: f64) -> f64 {
    let warm = ((step + 1.0) / rao.lr_warmup.max(1) as f64).min(1.0);
    let (from, last) = (rao.lr_decay_from as f64, rao.steps.saturating_sub(1) as f64);
    let fall = if step > from && last > from {
        ((step - from) / (last - from)).min(1.0)
    } else {
        0.0
    };
    warm * (rao.lr + (rao.lr_final - rao.lr) * fall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_holds_and_falls() {
        let rao = Rao {
            steps: 11,
            lr: 1.0,
            lr_final: 0.5,
            lr_warmup: 2,
            lr_decay_from: 6,
            ..crate::config::Config::default().rao
        };
        let rates: Vec<f64> = (0..12).map(|step| learning_rate(&rao, f64::from(step))).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.5]);
    }
}
