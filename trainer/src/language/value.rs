//! Values that pass between tools, agents and their children.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// What tools take and give, and what agents hand to each other: what Python's literals can say.
///
/// `Serialize` and `Deserialize` keep every variant apart, in any format; [`to_json`](Self::to_json) is for models and people, who lose the
/// difference between a list and a tuple.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `None`.
    #[default]
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number of 64 bits.
    Int(i64),
    /// A larger whole number, in decimal digits.
    BigInt(String),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A set.
    Set(Vec<Value>),
    /// A dictionary, in its order.
    Dict(Vec<(Value, Value)>),
}

/// JSON has no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSON cannot say {0}")]
pub struct NotJson(pub &'static str);

impl Value {
    /// The number, of a whole one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, of a text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) | Self::Tuple(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }

    /// The entries of a dictionary.
    #[must_use]
    pub fn as_dict(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The closest that JSON can say: tuples and sets are lists, keys are text.
    ///
    /// # Errors
    /// [`NotJson`]: bytes, a number that is none, or a key that is a container.
    pub fn to_json(&self) -> Result<serde_json::Value, NotJson> {
        use serde_json::Value as Json;
        Ok(match self {
            Self::None => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(number) => Json::from(*number),
            Self::BigInt(digits) => Json::String(digits.clone()),
            Self::Float(number) => {
                Json::Number(Number::from_f64(*number).ok_or(NotJson("a number that is not finite"))?)
            }
            Self::Str(text) => Json::String(text.clone()),
            Self::Bytes(_) => return Err(NotJson("bytes")),
            Self::List(values) | Self::Tuple(values) | Self::Set(values) => {
                Json::Array(values.iter().map(Self::to_json).collect::<Result<_, _>>()?)
            }
            Self::Dict(entries) => {
                let entries = entries.iter().map(|(key, value)| {
                    let key = match key {
                        Self::Str(text) => text.clone(),
                        Self::None | Self::Bool(_) | Self::Int(_) | Self::BigInt(_) | Self::Float(_) => {
                            key.to_json()?.to_string()
                        }
                        _ => return Err(NotJson("a key that is no text")),
                    };
                    Ok((key, value.to_json()?))
                });
                Json::Object(entries.collect::<Result<_, _>>()?)
            }
        })
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => number
                    .as_f64()
                    .map_or_else(|| Self::BigInt(number.to_string()), Self::Float),
            },
            Json::String(text) => Self::Str(text.clone()),
            Json::Array(values) => Self::List(values.iter().map(Self::from).collect()),
            Json::Object(entries) => Self::Dict(
                entries
                    .iter()
                    .map(|(key, value)| (Self::Str(key.clone()), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_back() {
        let json = serde_json::json!({"a": [1, 2.5, "x", null, true], "b": {"c": -3}});
        assert_eq!(Value::from(&json).to_json().unwrap(), json);
    }

    #[test]
    fn what_json_cannot_say_is_named() {
        let dict = |key| Value::Dict(vec![(key, Value::None)]);
        assert_eq!(
            Value::Float(f64::NAN).to_json(),
            Err(NotJson("a number that is not finite"))
        );
        assert_eq!(
            Value::List(vec![Value::Bytes(vec![1])]).to_json(),
            Err(NotJson("bytes"))
        );
        assert_eq!(
            dict(Value::Tuple(Vec::new())).to_json(),
            Err(NotJson("a key that is no text"))
        );
        assert_eq!(dict(Value::Int(7)).to_json().unwrap(), serde_json::json!({"7": null}));
    }

    #[test]
    fn every_variant_is_kept_apart_by_serde() {
        let value = Value::Tuple(vec![
            Value::Set(vec![Value::Int(1)]),
            Value::Bytes(vec![0, 255]),
            Value::BigInt("123456789012345678901".into()),
            Value::Dict(vec![(Value::Int(1), Value::List(vec![Value::Float(0.5)]))]),
        ]);
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
