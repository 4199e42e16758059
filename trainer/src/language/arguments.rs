//! What a call was given: [`Arguments`].

use super::{ToolError, Value};

/// Arguments by name, in the order of [`Tool::parameters`](super::Tool::parameters); those left out are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(pub Vec<(&'static str, Value)>);

impl Arguments {
    /// The argument of that name, if it was given.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find_map(|(given, value)| (*given == name).then_some(value))
    }

    /// The whole number of that name.
    ///
    /// # Errors
    /// It is missing, no whole number, or of more than 64 bits.
    pub fn int(&self, name: &str) -> Result<i64, ToolError> {
        match self.find(name) {
            Some(Value::BigInt(_)) => Err(ToolError(format!("{name} is beyond 64 bits"))),
            _ => self.typed(name, "an int", Value::as_int),
        }
    }

    /// The text of that name.
    ///
    /// # Errors
    /// It is missing or no text.
    pub fn text(&self, name: &str) -> Result<&str, ToolError> {
        self.typed(name, "a str", Value::as_str)
    }

    /// The elements of the list (or tuple) of that name.
    ///
    /// # Errors
    /// It is missing or no list.
    pub fn list(&self, name: &str) -> Result<&[Value], ToolError> {
        self.typed(name, "a list", Value::as_list)
    }

    /// The list of texts of that name.
    ///
    /// # Errors
    /// It is missing, no list, or not all of it is text.
    pub fn texts(&self, name: &str) -> Result<Vec<&str>, ToolError> {
        let texts = self.list(name)?.iter().map(|value| {
            let wrong = || ToolError(format!("{name} must be a list of str, not of {}", value.type_name()));
            value.as_str().ok_or_else(wrong)
        });
        texts.collect()
    }

    /// The counts of that name: a dictionary from text, each key once, to whole numbers.
    ///
    /// # Errors
    /// It is missing, no dictionary, or holds something else.
    pub fn counts(&self, name: &str) -> Result<Vec<(&str, i64)>, ToolError> {
        let mut counts: Vec<(&str, i64)> = Vec::new();
        for (key, value) in self.typed(name, "a dict", Value::as_dict)? {
            let Value::Str(key) = key else {
                return Err(ToolError(format!(
                    "{name}: every key must be a str, not {}",
                    key.type_name()
                )));
            };
            let count = match value {
                Value::Int(count) => *count,
                Value::BigInt(_) => return Err(ToolError(format!("{name}: the count of {key} is beyond 64 bits"))),
                _ => {
                    let wrong = value.type_name();
                    return Err(ToolError(format!(
                        "{name}: the count of {key} must be an int, not {wrong}"
                    )));
                }
            };
            if counts.iter().any(|&(known, _)| known == key) {
                return Err(ToolError(format!("{name}: {key} is there twice")));
            }
            counts.push((key, count));
        }
        Ok(counts)
    }

    fn typed<'a, T>(&'a self, name: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, ToolError> {
        let value = self.find(name).ok_or_else(|| ToolError(format!("{name} is missing")))?;
        read(value).ok_or_else(|| ToolError(format!("{name} must be {what}, not {}", value.type_name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(value: Value) -> Arguments {
        Arguments(vec![("x", value)])
    }

    #[test]
    fn what_fits_is_read() {
        assert_eq!(arguments(Value::Int(3)).int("x"), Ok(3));
        assert_eq!(arguments("a".into()).text("x"), Ok("a"));
        assert_eq!(arguments(vec!["a", "b"].into()).texts("x"), Ok(vec!["a", "b"]));
        let counts = Value::Dict(vec![("a".into(), Value::Int(2)), ("b".into(), Value::Int(1))]);
        assert_eq!(arguments(counts).counts("x"), Ok(vec![("a", 2), ("b", 1)]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |error: ToolError| error.0;
        let huge = || Value::BigInt("99999999999999999999".into());
        assert_eq!(message(Arguments::default().int("x").unwrap_err()), "x is missing");
        assert_eq!(message(arguments(huge()).int("x").unwrap_err()), "x is beyond 64 bits");
        assert_eq!(
            message(arguments(huge()).text("x").unwrap_err()),
            "x must be a str, not int"
        );
        assert_eq!(
            message(arguments(vec![1_i64].into()).texts("x").unwrap_err()),
            "x must be a list of str, not of int"
        );
        let counts = |key: Value, value: Value| {
            let counts = Value::Dict(vec![("a".into(), Value::Int(1)), (key, value)]);
            message(arguments(counts).counts("x").unwrap_err())
        };
        assert_eq!(
            counts("b".into(), true.into()),
            "x: the count of b must be an int, not bool"
        );
        assert_eq!(counts("b".into(), huge()), "x: the count of b is beyond 64 bits");
        assert_eq!(counts("a".into(), Value::Int(1)), "x: a is there twice");
        assert_eq!(
            counts(Value::Int(1), Value::Int(1)),
            "x: every key must be a str, not int"
        );
    }
}
