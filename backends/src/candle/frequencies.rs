//! [`Frequencies`]: how fast each pair of the rotary embedding turns, for learner and sampler alike.

use std::f64::consts::TAU;

use super::config::{ModelConfig, RopeScaling, Yarn};

/// One frequency per pair of a head, in radians per position, and the scale of what is turned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frequencies {
    radians: Vec<f64>,
    attention: f64,
}

impl Frequencies {
    /// Of heads of this width, with this base, scaled if the model is.
    pub(crate) fn new(dim: usize, theta: f64, scaling: Option<&RopeScaling>) -> Self {
        let mut radians: Vec<f64> = (0..dim / 2)
            .map(|pair| theta.powf(-2.0 * pair as f64 / dim as f64))
            .collect();
        let mut attention = 1.0;
        match scaling {
            None => {}
            Some(RopeScaling::Linear { factor }) => radians.iter_mut().for_each(|radians| *radians /= factor),
            Some(RopeScaling::Yarn(yarn)) => {
                let (low, high) = ramp(yarn, dim, theta);
                let width = if low == high { RAMP_MIN } else { high - low };
                for (pair, radians) in radians.iter_mut().enumerate() {
                    let divided = ((pair as f64 - low) / width).clamp(0.0, 1.0);
                    *radians = *radians / yarn.factor * divided + *radians * (1.0 - divided);
                }
                attention = attention_factor(yarn);
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                for radians in &mut radians {
                    let turns = *original_max_position_embeddings as f64 * *radians / TAU;
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    *radians = *radians / factor * (1.0 - kept) + *radians * kept;
                }
            }
        }
        Self { radians, attention }
    }

    /// Those of a model.
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self::new(config.head_dim, config.rope_theta, config.rope_scaling.as_ref())
    }

    /// Cosines and sines of all pairs at a position, times the scale.
    pub(crate) fn at(&self, position: usize) -> impl Iterator<Item = (f32, f32)> + Clone {
        // In f64: at long positions f32 angles are off by more than the rotation's last bits.
        self.radians.iter().map(move |radians| {
            let angle = position as f64 * radians;
            (
                (angle.cos() * self.attention) as f32,
                (angle.sin() * self.attention) as f32,
            )
        })
    }
}

/// Width of a ramp that has none, as transformers and llama.cpp have it.
const RAMP_MIN: f64 = 0.001;

/// The first pair that is divided at all, and the first that is divided by all of YaRN's factor.
pub(crate) fn ramp(yarn: &Yarn, dim: usize, theta: f64) -> (f64, f64) {
    let pair_of = |turns: f64| {
        let length = yarn.original_max_position_embeddings as f64;
        dim as f64 * (length / (turns * TAU)).ln() / (2.0 * theta.ln())
    };
    let (mut low, mut high) = (pair_of(yarn.beta_fast), pair_of(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low.max(0.0), high.min(dim as f64 - 1.0))
}

/// The scale of rotated queries and keys: the paper's equation 22, or what the configuration says.
pub(crate) fn attention_factor(yarn: &Yarn) -> f64 {
    let scale = |weight: f64| 0.1 * weight * yarn.factor.ln() + 1.0;
    match (yarn.attention_factor, yarn.mscale, yarn.mscale_all_dim) {
        (Some(factor), ..) => factor,
        (None, Some(mscale), Some(all)) => scale(mscale) / scale(all),
        _ => scale(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What transformers 5.24 computes for a `config.json` with these fields (`inv_freq` and `attention_scaling` of
    /// `Qwen3RotaryEmbedding`, heads of 16): the configuration is read as it would be.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let cases: [(&str, f64, [f64; 8]); 8] = [
            (
                r#""rope_theta": 1000.0"#,
                1.0,
                [
                    1.0,
                    0.421696514,
                    0.177827939,
                    0.0749894157,
                    0.0316227786,
                    0.0133352149,
                    0.00562341325,
                    0.00237137382,
                ],
            ),
            (
                r#""rope_theta": 1000.0, "rope_scaling": {"type": "linear", "factor": 3.0}"#,
                1.0,
                [
                    0.333333343,
                    0.1405655,
                    0.059275981,
                    0.0249964725,
                    0.0105409259,
                    0.0044450718,
                    0.00187447108,
                    0.00079045794,
                ],
            ),
            (
                r#""rope_theta": 1000.0, "rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                    "beta_fast": 16, "beta_slow": 2, "attention_factor": 1.25}"#,
                1.25,
                [
                    1.0,
                    0.421696514,
                    0.138928071,
                    0.0421815477,
                    0.01087033,
                    0.00166690187,
                    0.000702926656,
                    0.000296421727,
                ],
            ),
            (
                r#""rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.707,
                    "original_max_position_embeddings": 1024, "truncate": false}"#,
                1.0857263992561355,
                [
                    1.0,
                    0.316227764,
                    0.0810182244,
                    0.0153779769,
                    0.00162406277,
                    7.90569466e-05,
                    2.49999994e-05,
                    7.90569447e-06,
                ],
            ),
            (
                r#""rope_theta": 10000.0, "max_position_embeddings": 256, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}"#,
                1.0693147180559945,
                [
                    1.0,
                    0.276699275,
                    0.075000003,
                    0.0197642371,
                    0.00499999989,
                    0.00158113893,
                    0.000500000024,
                    0.000158113893,
                ],
            ),
            (
                r#""rope_theta": 1000.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4,
                    "beta_fast": null}"#,
                1.138629436111989,
                [
                    1.0,
                    0.105424128,
                    0.0444569848,
                    0.0187473539,
                    0.00790569466,
                    0.00333380373,
                    0.00140585331,
                    0.000592843455,
                ],
            ),
            (
                r#""rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}"#,
                1.0,
                [
                    1.0,
                    0.193922758,
                    0.0376060307,
                    0.00729266508,
                    0.000524846022,
                    3.42810235e-05,
                    6.64786967e-06,
                    1.28917316e-06,
                ],
            ),
            (
                r#""rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}"#,
                1.0,
                [
                    1.0,
                    0.421696514,
                    0.177827939,
                    0.0749894157,
                    0.0316227786,
                    0.0133352149,
                    0.00562341325,
                    0.00237137382,
                ],
            ),
        ];
        for (fields, attention, expected) in cases {
            let mut json: serde_json::Value = serde_json::from_str(&ModelConfig::tiny(9).to_json().unwrap()).unwrap();
            let given: serde_json::Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
            json.as_object_mut().unwrap().remove("rope_theta");
            json.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            let config = ModelConfig::from_json(&json.to_string()).unwrap();
            // And after a round through our own file.
            for config in [ModelConfig::from_json(&config.to_json().unwrap()).unwrap(), config] {
                let found = Frequencies::of(&config);
                assert!(
                    (found.attention - attention).abs() < 1e-12,
                    "{fields}: {}",
                    found.attention
                );
                assert_eq!(found.radians.len(), expected.len());
                for (found, expected) in found.radians.iter().zip(expected) {
                    // They compute in f32.
                    assert!(
                        (found / expected - 1.0).abs() < 1e-6,
                        "{fields}: {found}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn qwen3_with_yarn_is_that_of_transformers() {
        let yarn = RopeScaling::Yarn(Yarn::new(4.0, 32_768));
        let found = Frequencies::new(128, 1e6, Some(&yarn));
        assert!((found.attention - 1.138629436111989).abs() < 1e-12);
        // Kept, the first of the ramp and those around it, its middle, its last, divided.
        for (pair, expected) in [
            (0, 1.0),
            (22, 0.00865964312),
            (23, 0.00697830599),
            (24, 0.00537532149),
            (30, 0.00106436096),
            (39, 6.4903943e-05),
            (40, 4.44569851e-05),
            (41, 3.58253164e-05),
            (63, 3.10234441e-07),
        ] {
            let found = found.radians[pair];
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{pair}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn positions_turn_and_the_scale_is_on_both() {
        let yarn = Yarn {
            attention_factor: Some(1.5),
            ..Yarn::new(4.0, 64)
        };
        let frequencies = Frequencies::new(16, 1000.0, Some(&RopeScaling::Yarn(yarn)));
        assert!(frequencies.at(0).all(|turned| turned == (1.5, 0.0)));
        let (cos, sin) = frequencies.at(100).last().unwrap();
        let angle = 100.0 * frequencies.radians[7];
        assert_eq!((cos, sin), ((1.5 * angle.cos()) as f32, (1.5 * angle.sin()) as f32));
    }
}
