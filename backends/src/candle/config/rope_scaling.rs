//! [`RopeScaling`]: how the rotary embedding is stretched to contexts that the model was not trained on.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ConfigError;

/// How the frequencies of the rotary embedding are stretched, as `rope_scaling` of a `config.json` says. What is computed is what
/// transformers 5 computes; models that it scales otherwise (`dynamic`, `longrope`) are refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Position interpolation (arXiv 2306.15595): every frequency is divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// YaRN, as Qwen3's authors recommend it beyond 32,768 tokens.
    Yarn(Yarn),
    /// Llama 3.1's rule: long waves are divided by `factor`, short ones are kept, those between are interpolated.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Waves of more than `original_max_position_embeddings` / this are long; above 0.
        low_freq_factor: f64,
        /// Waves of less than `original_max_position_embeddings` / this are short; above `low_freq_factor`.
        high_freq_factor: f64,
        /// Longest sequence that the model was trained on, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// YaRN (arXiv 2309.00071): frequencies that turn often within the original context are kept, those that turn rarely are divided by
/// `factor`, with a ramp in between; and rotated queries and keys are scaled, which makes attention sharper.
///
/// `factor` is taken as it is, also where it is not `max_position_embeddings / original_max_position_embeddings`; transformers 4 takes
/// that quotient instead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Yarn {
    /// At least 1.
    pub factor: f64,
    /// Longest sequence that the model was trained on, in tokens.
    pub original_max_position_embeddings: usize,
    /// Frequencies of more turns than this in the original context are kept; at least `beta_slow`.
    #[serde(default = "beta_fast")]
    pub beta_fast: f64,
    /// Frequencies of fewer turns than this are divided by `factor`; above 0.
    #[serde(default = "beta_slow")]
    pub beta_slow: f64,
    /// Scale of rotated queries and keys; above 0. Without it, it follows from `factor` and the two below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Counts only together with `mscale_all_dim`; above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// Counts only together with `mscale`; above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// The ramp begins and ends at whole frequencies.
    #[serde(default = "truncate", skip_serializing_if = "Clone::clone")]
    pub truncate: bool,
}

/// The paper's values, which transformers takes where nothing is said.
fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

fn truncate() -> bool {
    true
}

impl Yarn {
    /// With the paper's constants.
    #[must_use]
    pub fn new(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self {
            factor,
            original_max_position_embeddings,
            beta_fast: beta_fast(),
            beta_slow: beta_slow(),
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: truncate(),
        }
    }
}

/// A number of a [`RopeScaling`] outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`rope_scaling.{field}` must be {expected}, got {value}")]
pub struct RopeScalingError {
    /// The field.
    pub field: &'static str,
    /// What was found.
    pub value: f64,
    /// What it must be.
    pub expected: &'static str,
}

impl RopeScaling {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`RopeScalingError`] names the first that is outside.
    pub fn validate(&self) -> Result<(), RopeScalingError> {
        let check = |field, value: f64, holds: bool, expected| match holds && value.is_finite() {
            true => Ok(()),
            false => Err(RopeScalingError { field, value, expected }),
        };
        let factor = |value: f64| check("factor", value, value >= 1.0, "finite and at least 1");
        let original = |value: usize| {
            check(
                "original_max_position_embeddings",
                value as f64,
                value > 0,
                "at least 1",
            )
        };
        let positive = |field, value: f64| check(field, value, value > 0.0, "finite and above 0");
        match *self {
            Self::Linear { factor: by } => factor(by),
            Self::Yarn(yarn) => {
                factor(yarn.factor)?;
                original(yarn.original_max_position_embeddings)?;
                positive("beta_slow", yarn.beta_slow)?;
                let ordered = yarn.beta_fast >= yarn.beta_slow;
                check("beta_fast", yarn.beta_fast, ordered, "finite and at least beta_slow")?;
                for (field, value) in [
                    ("attention_factor", yarn.attention_factor),
                    ("mscale", yarn.mscale),
                    ("mscale_all_dim", yarn.mscale_all_dim),
                ] {
                    value.map_or(Ok(()), |value| positive(field, value))?;
                }
                Ok(())
            }
            Self::Llama3 {
                factor: by,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: length,
            } => {
                factor(by)?;
                original(length)?;
                positive("low_freq_factor", low)?;
                check("high_freq_factor", high, high > low, "finite and above low_freq_factor")
            }
        }
    }
}

/// Brings the spellings of all versions of transformers to one: `rope_theta` at the top, and `rope_scaling` with `rope_type`, without
/// what is null, or null.
pub(super) fn normalise(fields: &mut Map<String, Value>) -> Result<(), ConfigError> {
    let refuse = |field: &str, value: &Value| {
        Err(ConfigError::Unsupported {
            field: field.to_owned(),
            value: value.to_string(),
        })
    };
    // `rope_parameters` is transformers 5's, and holds the base of the frequencies too.
    let mut given = Vec::new();
    for name in ["rope_scaling", "rope_parameters"] {
        match fields.remove(name) {
            Some(Value::Object(map)) if !map.is_empty() => given.push((name, map)),
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => return refuse(name, &other),
        }
    }
    if let [(_, first), (name, second)] = &given[..]
        && first != second
    {
        // One of them would be ignored.
        return refuse(name, &Value::Object(second.clone()));
    }
    let Some((name, mut scaling)) = given.into_iter().next() else {
        fields.insert("rope_scaling".to_owned(), Value::Null);
        return Ok(());
    };
    scaling.retain(|_, value| !value.is_null());
    if let Some((field, value)) = scaling.iter().find(|(_, value)| value.is_object()) {
        // One set of parameters per kind of layer.
        return refuse(&format!("{name}.{field}"), value);
    }
    match scaling.remove("partial_rotary_factor") {
        Some(part) if part.as_f64() != Some(1.0) => return refuse(&format!("{name}.partial_rotary_factor"), &part),
        _ => {}
    }
    if let Some(theta) = scaling.remove("rope_theta") {
        match fields.get("rope_theta") {
            Some(other) if other.as_f64() != theta.as_f64() => return refuse(&format!("{name}.rope_theta"), &theta),
            _ => drop(fields.insert("rope_theta".to_owned(), theta)),
        }
    }
    // The older name of the newer field.
    let older = scaling.remove("type");
    let kind = scaling
        .remove("rope_type")
        .or(older)
        .unwrap_or_else(|| "default".into());
    let scaled = match kind.as_str() {
        Some("default") => Value::Null,
        Some("linear" | "yarn" | "llama3") => {
            scaling.insert("rope_type".to_owned(), kind);
            // A field of the whole model goes before; without any, it is the length that the model has now.
            let length = fields
                .get("original_max_position_embeddings")
                .filter(|length| !length.is_null());
            if let Some(length) = length {
                scaling.insert("original_max_position_embeddings".to_owned(), length.clone());
            } else if let Some(length) = fields.get("max_position_embeddings") {
                scaling
                    .entry("original_max_position_embeddings")
                    .or_insert_with(|| length.clone());
            }
            Value::Object(scaling)
        }
        _ => return refuse(&format!("{name}.rope_type"), &kind),
    };
    fields.insert("rope_scaling".to_owned(), json!(scaled));
    Ok(())
}
