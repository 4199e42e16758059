//! What a value must be: checks, JSON schemas and Python annotations of [`Kind`], [`Parameter`] and [`Tool`].
//!
//! One check serves both harnesses. It is our own, because the schemas are: a validator of JSON Schema at large would bring some fifty crates
//! to check seven kinds, would not see a tuple or a set, and would say what is wrong in the terms of a standard.

use super::{Arguments, Kind, Parameter, Tool, Value};
use serde_json::{Value as Json, json};
use std::fmt;

/// Whole numbers that a float holds exactly: up to 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Kind {
    /// Takes a value of this kind. A float that is a whole number is one; a tuple is a list; nothing else is converted.
    ///
    /// # Errors
    /// [`Mismatch`]: what is expected, what there is, and where in the value.
    pub fn accept(&self, value: Value) -> Result<Value, Mismatch> {
        match (self, value) {
            (Self::Any, value) => Ok(value),
            (Self::Bool, value @ Value::Bool(_))
            | (Self::Int, value @ (Value::Int(_) | Value::BigInt(_)))
            | (Self::Number, value @ (Value::Int(_) | Value::BigInt(_) | Value::Float(_)))
            | (Self::Str, value @ Value::Str(_)) => Ok(value),
            (Self::Int, Value::Float(number)) if number.fract() == 0.0 && number.abs() <= EXACT_MAX => {
                Ok(Value::Int(number as i64))
            }
            (Self::List(kind), Value::List(values)) => Ok(Value::List(kind.accept_all(values)?)),
            (Self::List(kind), Value::Tuple(values)) => Ok(Value::Tuple(kind.accept_all(values)?)),
            (Self::Dict(kind), Value::Dict(entries)) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    let place = match &key {
                        Value::Str(text) => format!("[{text:?}]"),
                        other => return Err(Mismatch::new(&Self::Str, other).within(" key")),
                    };
                    let value = kind.accept(value).map_err(|error| error.within(&place))?;
                    Ok((key, value))
                });
                Ok(Value::Dict(entries.collect::<Result<_, _>>()?))
            }
            (_, value) => Err(Mismatch::new(self, &value)),
        }
    }

    fn accept_all(&self, values: Vec<Value>) -> Result<Vec<Value>, Mismatch> {
        let each = values.into_iter().enumerate();
        each.map(|(index, value)| self.accept(value).map_err(|error| error.within(&format!("[{index}]"))))
            .collect()
    }

    /// As JSON Schema has it.
    #[must_use]
    pub fn to_schema(&self) -> Json {
        match self {
            Self::Any => json!({}),
            Self::Bool => json!({"type": "boolean"}),
            Self::Int => json!({"type": "integer"}),
            Self::Number => json!({"type": "number"}),
            Self::Str => json!({"type": "string"}),
            Self::List(kind) => json!({"type": "array", "items": kind.to_schema()}),
            Self::Dict(kind) => json!({"type": "object", "additionalProperties": kind.to_schema()}),
        }
    }
}

/// As Python annotates it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Number => f.write_str("float"),
            Self::Str => f.write_str("str"),
            Self::List(kind) => write!(f, "list[{kind}]"),
            Self::Dict(kind) => write!(f, "dict[str, {kind}]"),
        }
    }
}

/// A value is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} must be {expected}, not {found}")]
pub struct Mismatch {
    /// Where: the argument, and the way into it.
    pub place: String,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub found: &'static str,
}

impl Mismatch {
    fn new(kind: &Kind, value: &Value) -> Self {
        Self {
            place: String::new(),
            expected: kind.to_string(),
            found: value.type_name(),
        }
    }

    fn within(mut self, place: &str) -> Self {
        self.place.insert_str(0, place);
        self
    }
}

/// Arguments that a call cannot be made with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// A required one is missing.
    #[error("{name} is missing; usage: {usage}")]
    Missing {
        /// Which.
        name: &'static str,
        /// The signature.
        usage: String,
    },
    /// There is none of that name.
    #[error("there is no argument {name}; usage: {usage}")]
    Unknown {
        /// Its name, as it was given.
        name: String,
        /// The signature.
        usage: String,
    },
    /// One was given twice.
    #[error("{name} is given twice; usage: {usage}")]
    Twice {
        /// Which.
        name: &'static str,
        /// The signature.
        usage: String,
    },
    /// More positional ones than there are parameters.
    #[error("{given} arguments, at most {max}; usage: {usage}")]
    TooMany {
        /// Arguments without a name.
        given: usize,
        /// Parameters.
        max: usize,
        /// The signature.
        usage: String,
    },
    /// One is of another kind.
    #[error("{mismatch}; usage: {usage}")]
    Kind {
        /// What is wrong.
        mismatch: Mismatch,
        /// The signature.
        usage: String,
    },
}

impl Tool {
    /// The arguments of a call: positional ones first, then those by name. An argument that is `None` counts as left out where it need not be
    /// given.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn bind(&self, positional: Vec<Value>, named: Vec<(String, Value)>) -> Result<Arguments, ArgumentError> {
        let usage = || self.signature();
        let max = self.parameters.len();
        if positional.len() > max {
            let (given, usage) = (positional.len(), usage());
            return Err(ArgumentError::TooMany { given, max, usage });
        }
        let mut given: Vec<Option<Value>> = positional.into_iter().map(Some).collect();
        given.resize(max, None);
        for (name, value) in named {
            let Some(index) = self.parameters.iter().position(|parameter| parameter.name == name) else {
                let name = name.chars().take(40).collect();
                return Err(ArgumentError::Unknown { name, usage: usage() });
            };
            if given[index].replace(value).is_some() {
                let name = self.parameters[index].name;
                return Err(ArgumentError::Twice { name, usage: usage() });
            }
        }
        let mut arguments = Vec::with_capacity(max);
        for (parameter, value) in self.parameters.iter().zip(given) {
            match value {
                None | Some(Value::None) if !parameter.required => {}
                None => {
                    let name = parameter.name;
                    return Err(ArgumentError::Missing { name, usage: usage() });
                }
                Some(value) => {
                    let value = parameter.kind.accept(value).map_err(|mismatch| ArgumentError::Kind {
                        mismatch: mismatch.within(parameter.name),
                        usage: usage(),
                    })?;
                    arguments.push((parameter.name, value));
                }
            }
        }
        Ok(Arguments(arguments))
    }

    /// As Python would write it: `name(a: int, b: str = None)`.
    #[must_use]
    pub fn signature(&self) -> String {
        let parameters = self.parameters.iter().map(Parameter::signature);
        format!("{}({})", self.name, parameters.collect::<Vec<_>>().join(", "))
    }

    /// As chat templates take it: a function with a JSON schema of its parameters.
    #[must_use]
    pub fn to_schema(&self) -> Json {
        let properties = self.parameters.iter().map(|parameter| {
            let mut schema = parameter.kind.to_schema();
            schema["description"] = parameter.description.into();
            (parameter.name.to_owned(), schema)
        });
        let required = self.parameters.iter().filter(|parameter| parameter.required);
        let parameters = json!({
            "type": "object",
            "properties": properties.collect::<serde_json::Map<_, _>>(),
            "required": required.map(|parameter| parameter.name).collect::<Vec<_>>(),
        });
        json!({
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": parameters},
        })
    }
}

impl Parameter {
    fn signature(&self) -> String {
        let default = if self.required { "" } else { " = None" };
        format!("{}: {}{default}", self.name, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> Tool {
        let parameter = |name, kind, required| Parameter {
            name,
            description: "",
            kind,
            required,
        };
        Tool {
            name: "f",
            description: "",
            parameters: vec![
                parameter("a", Kind::Int, true),
                parameter("b", Kind::List(Box::new(Kind::Str)), false),
                parameter("c", Kind::Dict(Box::new(Kind::Number)), false),
            ],
        }
    }

    fn named(name: &str, value: Value) -> Vec<(String, Value)> {
        vec![(name.to_owned(), value)]
    }

    #[test]
    fn arguments_are_bound_in_order_and_by_name() {
        let dict = Value::Dict(vec![("k".into(), Value::Float(0.5))]);
        let bound = tool().bind(vec![Value::Float(3.0)], named("c", dict.clone())).unwrap();
        assert_eq!(bound, Arguments(vec![("a", Value::Int(3)), ("c", dict)]));
        let bound = tool().bind(vec![Value::Int(1), Value::None], Vec::new()).unwrap();
        assert_eq!(bound, Arguments(vec![("a", Value::Int(1))]));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let usage = "usage: f(a: int, b: list[str] = None, c: dict[str, float] = None)";
        let wrong = |positional, named| tool().bind(positional, named).unwrap_err().to_string();
        let one = || vec![Value::Int(1)];
        assert_eq!(wrong(Vec::new(), Vec::new()), format!("a is missing; {usage}"));
        assert_eq!(
            wrong(vec![Value::None], Vec::new()),
            format!("a must be int, not None; {usage}")
        );
        assert_eq!(
            wrong(vec![true.into()], Vec::new()),
            format!("a must be int, not bool; {usage}")
        );
        assert_eq!(
            wrong(vec![Value::Float(0.5)], Vec::new()),
            format!("a must be int, not float; {usage}")
        );
        assert_eq!(
            wrong(vec![Value::Int(0); 4], Vec::new()),
            format!("4 arguments, at most 3; {usage}")
        );
        assert_eq!(
            wrong(one(), named("a", Value::Int(1))),
            format!("a is given twice; {usage}")
        );
        assert_eq!(
            wrong(one(), named(&"z".repeat(1_000_000), Value::None)),
            format!("there is no argument {}; {usage}", "z".repeat(40))
        );
        let list = Value::Tuple(vec!["x".into(), Value::Int(2)]);
        assert_eq!(
            wrong(one(), named("b", list)),
            format!("b[1] must be str, not int; {usage}")
        );
        let dict = Value::Dict(vec![("k".into(), "v".into())]);
        assert_eq!(
            wrong(one(), named("c", dict)),
            format!("c[\"k\"] must be float, not str; {usage}")
        );
        let dict = Value::Dict(vec![(Value::Int(1), Value::Int(1))]);
        assert_eq!(
            wrong(one(), named("c", dict)),
            format!("c key must be str, not int; {usage}")
        );
    }

    #[test]
    fn a_tool_is_described_as_json_schema() {
        insta::assert_snapshot!(tool().to_schema().to_string());
    }
}
