//! Values that pass between tools, agents and their children.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use std::fmt::{self, Write as _};

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
    /// A number. In text formats, one that is not finite is written as text: `"nan"`, `"inf"`, `"-inf"`.
    #[serde(with = "float")]
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

/// Containers within containers that a value may have: readers of JSON stop at 128 levels, and a dictionary takes four.
pub const DEPTH_MAX: usize = 30;

/// A value that cannot be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// It takes too many bytes.
    #[error("the value takes {len} bytes, at most {max} can be handed over")]
    Long {
        /// Bytes that it takes.
        len: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// Too many containers within containers.
    #[error("the value is nested more than {DEPTH_MAX} deep")]
    Deep,
    /// No value was written there.
    #[error("not a value: {0}")]
    Malformed(String),
}

/// Numbers that are not finite, for formats of text that have none.
mod float {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<'a> {
        Number(f64),
        Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
    }

    pub(super) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        if number.is_finite() || !to.is_human_readable() {
            return number.serialize(to);
        }
        let text = match (number.is_nan(), *number > 0.0) {
            (true, _) => "nan",
            (_, true) => "inf",
            (_, false) => "-inf",
        };
        text.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        if !from.is_human_readable() {
            return f64::deserialize(from);
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(number),
            Written::Text(text) => match text.as_ref() {
                "nan" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom("neither a number nor nan, inf or -inf")),
            },
        }
    }
}

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

    /// What Python calls its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::Dict(_) => "dict",
        }
    }

    /// As what one agent hands to another, and as event logs have it: JSON that keeps every variant apart.
    ///
    /// # Errors
    /// [`ValueError::Long`] beyond `max` bytes; [`ValueError::Deep`].
    pub fn encode(&self, max: usize) -> Result<Vec<u8>, ValueError> {
        self.check_depth(DEPTH_MAX)?;
        let bytes = serde_json::to_vec(self).map_err(|error| ValueError::Malformed(error.to_string()))?;
        if bytes.len() > max {
            let len = bytes.len();
            return Err(ValueError::Long { len, max });
        }
        Ok(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`ValueError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        serde_json::from_slice(bytes).map_err(|error| ValueError::Malformed(error.to_string()))
    }

    fn check_depth(&self, left: usize) -> Result<(), ValueError> {
        let left = left.checked_sub(1).ok_or(ValueError::Deep)?;
        match self {
            Self::List(values) | Self::Tuple(values) | Self::Set(values) => {
                values.iter().try_for_each(|value| value.check_depth(left))
            }
            Self::Dict(entries) => entries.iter().try_for_each(|(key, value)| {
                key.check_depth(left)?;
                value.check_depth(left)
            }),
            _ => Ok(()),
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

/// As Python writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Self]| {
            values.iter().enumerate().try_for_each(|(index, value)| {
                f.write_str(if index == 0 { "" } else { ", " })?;
                value.fmt(f)
            })
        };
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(value) => f.write_str(if *value { "True" } else { "False" }),
            Self::Int(number) => number.fmt(f),
            Self::BigInt(digits) => f.write_str(digits),
            Self::Float(number) if !number.is_finite() => write!(f, "float('{number}')"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Str(text) => write_quoted(f, text.chars()),
            Self::Bytes(bytes) => {
                f.write_str("b'")?;
                bytes.iter().try_for_each(|byte| match byte {
                    b'\'' | b'\\' => write!(f, "\\{}", char::from(*byte)),
                    0x20..0x7f => f.write_char(char::from(*byte)),
                    byte => write!(f, "\\x{byte:02x}"),
                })?;
                f.write_char('\'')
            }
            Self::List(values) => {
                f.write_char('[')?;
                list(f, values)?;
                f.write_char(']')
            }
            Self::Tuple(values) => {
                f.write_char('(')?;
                list(f, values)?;
                f.write_str(if values.len() == 1 { ",)" } else { ")" })
            }
            Self::Set(values) if values.is_empty() => f.write_str("set()"),
            Self::Set(values) => {
                f.write_char('{')?;
                list(f, values)?;
                f.write_char('}')
            }
            Self::Dict(entries) => {
                f.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_char('}')
            }
        }
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, mut letters: impl Iterator<Item = char>) -> fmt::Result {
    f.write_char('\'')?;
    letters.try_for_each(|letter| match letter {
        '\'' | '\\' => write!(f, "\\{letter}"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        control if control.is_control() => match u32::from(control) {
            code @ ..0x100 => write!(f, "\\x{code:02x}"),
            code => write!(f, "\\u{code:04x}"),
        },
        letter => f.write_char(letter),
    })?;
    f.write_char('\'')
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
    fn values_are_shown_as_python_writes_them() {
        let shown = |value: Value| value.to_string();
        assert_eq!(
            shown(Value::Dict(vec![
                ("it's\n\u{7}é".into(), Value::Tuple(vec![Value::None])),
                (Value::Int(-1), Value::Set(Vec::new())),
                (
                    Value::Float(1e300),
                    Value::Set(vec![true.into(), Value::Bytes(vec![0, b'\'', b'a'])])
                ),
            ])),
            r"{'it\'s\n\x07é': (None,), -1: set(), 1e300: {True, b'\x00\'a'}}"
        );
        assert_eq!(shown(Value::Float(2.0)), "2.0");
        assert_eq!(shown(Value::Float(f64::NEG_INFINITY)), "float('-inf')");
        assert_eq!(
            shown(vec![Value::BigInt("9".repeat(20)), Value::List(Vec::new())].into()),
            format!("[{}, []]", "9".repeat(20))
        );
    }

    #[test]
    fn floats_come_back_to_the_bit() {
        for number in [
            0.1 + 0.2,
            -0.0,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            let bytes = Value::Float(number).encode(100).unwrap();
            let Value::Float(back) = Value::decode(&bytes).unwrap() else {
                panic!("{}", String::from_utf8_lossy(&bytes))
            };
            assert_eq!(back.to_bits(), number.to_bits());
        }
        assert!(matches!(
            Value::decode(br#"{"Float":"1"}"#),
            Err(ValueError::Malformed(_))
        ));
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_refused_and_what_is_not_reads_back() {
        let nested = |depth| (1..depth).fold(Value::Int(1), |value, _| Value::Dict(vec![(Value::Int(0), value)]));
        let bytes = nested(DEPTH_MAX).encode(10_000).unwrap();
        assert_eq!(Value::decode(&bytes).unwrap(), nested(DEPTH_MAX));
        assert_eq!(nested(DEPTH_MAX + 1).encode(10_000), Err(ValueError::Deep));
        assert_eq!(
            Value::from("abc").encode(12),
            Err(ValueError::Long { len: 13, max: 12 })
        );
        let hostile = [b"{\"List\":[".repeat(100_000), b"1".to_vec()].concat();
        assert!(matches!(Value::decode(&hostile), Err(ValueError::Malformed(_))));
        assert!(matches!(Value::decode(b""), Err(ValueError::Malformed(_))));
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
