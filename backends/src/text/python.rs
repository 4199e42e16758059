//! Where Python and Jinja2 do otherwise than Rust and MiniJinja do, as far as templates can tell.
//!
//! Known to differ, and left: `mapping.items` without parentheses is the key `items` here and a method there; large and small floats
//! joined by `~` or inside of lists are written without an exponent.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::tojson::tojson;

/// What `raise_exception` was told.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Makes an environment what transformers' is, `strftime_now` apart.
pub(super) fn install(environment: &mut Environment<'_>) -> Result<(), Error> {
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_formatter(format);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", |state: &mut State, value: &Value, letters: Option<&str>| {
        let text = Value::from(text(value));
        let letters: Vec<Value> = letters.into_iter().map(Value::from).collect();
        method_of_text(state, &text, "strip", &letters)
    });
    environment.add_filter("string", |value: &Value| text(value));
    // Whatever has a length and elements; an undefined value has both, and none.
    environment.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Undefined | ValueKind::String | ValueKind::Map | ValueKind::Seq
        )
    });
    environment.add_function("raise_exception", |message: &Value| {
        let message = text(message);
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    Ok(())
}

/// `repr` of a finite float: the shortest digits that give the number again, with an exponent below -4 and from 16 on.
pub(super) fn float_repr(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..16) => {
            let plain = number.to_string();
            if exponent >= 0 && !plain.contains('.') {
                return plain + ".0";
            }
            plain
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

/// Python's white space: Unicode's, and four separators.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// `str(value)`.
fn text(value: &Value) -> String {
    if value.kind() == ValueKind::Number
        && !value.is_integer()
        && let Ok(number) = f64::try_from(value.clone())
    {
        return if number.is_nan() {
            "nan".to_owned()
        } else if number.is_infinite() {
            number.to_string()
        } else {
            float_repr(number)
        };
    }
    value.to_string()
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        return out.write_str(&text(value)).map_err(Error::from);
    }
    minijinja::escape_formatter(out, state, value)
}

/// Methods that values have in Python.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match value.as_str() {
        Some(_) => method_of_text(state, value, name, arguments),
        None => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// Methods of strings that pycompat lacks, or that know other white space than Python.
fn method_of_text(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let default = arguments.first().is_none_or(Value::is_none);
    match name {
        "strip" | "lstrip" | "rstrip" if default => {
            let _: (Option<&Value>,) = from_args(arguments)?;
            let text = if name == "rstrip" {
                text
            } else {
                text.trim_start_matches(is_space)
            };
            Ok(Value::from(if name == "lstrip" {
                text
            } else {
                text.trim_end_matches(is_space)
            }))
        }
        "split" if default => {
            let (_, limit): (Option<&Value>, Option<i64>) = from_args(arguments)?;
            Ok(list(&words(text, usize::try_from(limit.unwrap_or(-1)).ok())))
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(arguments)?;
            Ok(list(&lines(text, keep_ends.unwrap_or(false))))
        }
        "rsplit" => {
            let (separator, limit): (&str, Option<i64>) = from_args(arguments)?;
            let mut pieces: Vec<&str> = match usize::try_from(limit.unwrap_or(-1)) {
                Ok(limit) => text.rsplitn(limit.saturating_add(1), separator).collect(),
                Err(_) => text.rsplit(separator).collect(),
            };
            pieces.reverse();
            Ok(list(&pieces))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let (before, after) = text.split_once(separator).unwrap_or((text, ""));
            let found = if before.len() < text.len() { separator } else { "" };
            Ok(Tuple::from([before, found, after].map(Value::from)).into())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

fn list(pieces: &[&str]) -> Value {
    pieces.iter().copied().map(Value::from).collect()
}

/// `str.split` without a separator: at most `limit` cuts, and the rest as it stands.
fn words(text: &str, limit: Option<usize>) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if limit == Some(words.len()) {
            words.push(rest.trim_end_matches(is_space));
            break;
        }
        let (word, tail) = rest.split_at(rest.find(is_space).unwrap_or(rest.len()));
        words.push(word);
        rest = tail.trim_start_matches(is_space);
    }
    words
}

/// `str.splitlines`: Python knows more ends of a line than Rust.
fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |letter| {
        matches!(
            letter,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = &rest[at..];
        let length = if end.starts_with("\r\n") {
            2
        } else {
            end.chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..at + if keep_ends { length } else { 0 }]);
        rest = &end[length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{float_repr, lines, words};

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (123_456_789.25, "123456789.25"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (-1.25e100, "-1.25e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(float_repr(number), expected);
        }
    }

    #[test]
    fn text_is_cut_as_python_cuts_it() {
        assert_eq!(words(" a\u{1c}b\u{a0} c ", None), ["a", "b", "c"]);
        assert_eq!(words(" a  b  c ", Some(1)), ["a", "b  c"]);
        assert_eq!(words("  ", None), [""; 0]);
        assert_eq!(lines("a\r\nb\u{2028}\nc", false), ["a", "b", "", "c"]);
        assert_eq!(lines("a\r\nb\r", true), ["a\r\n", "b\r"]);
    }
}
