//! Laying given values over the defaults: every key must exist, every value must have its default's type.

use super::ConfigError;
use toml::{Table, Value};

/// Names less alike than this are not suggested.
const ALIKE: f64 = 0.8;

/// The table that a `key=value` argument stands for.
pub(super) fn parse_setting(setting: &str, origin: &str) -> Result<Table, ConfigError> {
    let syntax = |message: String| ConfigError::Syntax {
        origin: origin.into(),
        message,
    };
    let Some((key, value)) = setting.split_once('=') else {
        return Err(syntax("takes the form key=value, for example rao.steps=20".into()));
    };
    // A bare word is a string: nobody quotes on a command line.
    let quoted = format!("{} = {}", key.trim(), Value::String(value.trim().into()));
    format!("{} = {}", key.trim(), value.trim())
        .parse()
        .or_else(|_| quoted.parse())
        .map_err(|error: toml::de::Error| syntax(error.message().to_owned()))
}

/// Lays `given` over `table`; every key of it must already be there, with a value of the same type.
pub(super) fn merge(table: &mut Table, given: Table, origin: &str) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    paths(table, "", &mut known);
    merge_below(table, given, origin, "", &known)
}

fn merge_below(
    table: &mut Table,
    given: Table,
    origin: &str,
    prefix: &str,
    known: &[String],
) -> Result<(), ConfigError> {
    for (key, value) in given {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let Some(place) = table.get_mut(&key) else {
            return Err(ConfigError::UnknownKey {
                origin: origin.into(),
                nearest: nearest(&path, known),
                path,
            });
        };
        match (place, value) {
            (Value::Table(below), Value::Table(value)) => merge_below(below, value, origin, &path, known)?,
            (place @ Value::Float(_), Value::Integer(value)) => *place = Value::Float(value as f64),
            (place, value) if place.type_str() == value.type_str() => *place = value,
            (place, value) => {
                return Err(ConfigError::WrongType {
                    origin: origin.into(),
                    path,
                    expected: article(place),
                    found: article(&value),
                });
            }
        }
    }
    Ok(())
}

fn paths(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        if let Value::Table(below) = value {
            paths(below, &path, out);
        }
        out.push(path);
    }
}

fn nearest(path: &str, known: &[String]) -> Option<String> {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // A right name in the wrong section is nearer than a similar name in the right one.
    let alike = |candidate: &str| strsim::jaro_winkler(&name(path), &name(candidate));
    let score = |candidate: &str| strsim::jaro_winkler(path, candidate) + 2.0 * alike(candidate);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (alike(best) >= ALIKE).then(|| best.clone())
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
        Value::Datetime(_) => "a date",
    }
}
