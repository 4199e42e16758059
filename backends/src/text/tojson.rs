//! The filter `tojson` as transformers defines it for chat templates: Python's `json.dumps` with `ensure_ascii=False`.
//!
//! Models were trained on these very bytes: `", "` and `": "` between elements, keys in the order in which they came, numbers as Python
//! writes them, nothing escaped for HTML.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::python::float_repr;

/// `value | tojson(ensure_ascii, indent, separators=..., sort_keys=...)`.
pub(super) fn tojson(
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii =
        ensure_ascii.map_or_else(|| kwargs.get::<Option<bool>>("ensure_ascii"), |given| Ok(Some(given)))?;
    let indent = indent.map_or_else(|| kwargs.get::<Option<Value>>("indent"), |given| Ok(Some(given)))?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let indent = indent.map(indentation).transpose()?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(refused("separators are two strings".to_owned())),
    };
    let mut writer = Writer {
        out: String::new(),
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
        indent,
        separators: [item, key],
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

/// What one level is set in by: a number of spaces, or a text.
fn indentation(indent: Value) -> Result<String, Error> {
    match indent.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok(" ".repeat(i64::try_from(indent)?.max(0) as usize)),
    }
}

fn refused(reason: String) -> Error {
    Error::new(ErrorKind::BadSerialization, reason)
}

struct Writer<'a> {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    /// Between two elements, and between a key and its value.
    separators: [&'a str; 2],
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    pairs.push((key_text(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
                }
                self.container(['{', '}'], pairs, depth, |writer, (key, value)| {
                    writer.string(&key);
                    writer.out.push_str(writer.separators[1]);
                    writer.value(&value, depth + 1)
                })?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let elements = value.try_iter()?.collect();
                self.container(['[', ']'], elements, depth, |writer, element: Value| {
                    writer.value(&element, depth + 1)
                })?;
            }
            _ => self.out.push_str(&scalar(value)?),
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        [open, close]: [char; 2],
        elements: Vec<T>,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let empty = elements.is_empty();
        for (index, element) in elements.into_iter().enumerate() {
            if index > 0 {
                self.out.push_str(self.separators[0]);
            }
            self.line(depth + 1);
            write(self, element)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    /// Begins a line, where there are lines.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(letter),
                '\u{80}'.. if self.ensure_ascii => self.escape(letter),
                // Python's encoder escapes DEL only where it escapes everything that is not ASCII; it is ASCII, so never.
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, letter: char) {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

/// A key as text: JSON has no other keys, and Python turns those it knows how to.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => scalar(key),
    }
}

fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => value.is_true().to_string(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match f64::try_from(value.clone())? {
            number if number.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            number => float_repr(number),
        },
        ValueKind::Undefined => return Err(refused("an undefined value has no JSON".to_owned())),
        kind => return Err(refused(format!("{kind} has no JSON"))),
    })
}
