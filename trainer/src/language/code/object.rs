//! [`Value`]s as the interpreter holds them, and back.

use super::super::Value;
use monty_types::MontyObject;

/// An object that no agent can be handed, for it means nothing outside its interpreter: of this type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be handed over: use numbers, text, lists, tuples, sets and dictionaries")]
pub(super) struct Foreign(String);

/// What the interpreter makes of a value.
pub(super) fn to_object(value: Value) -> MontyObject {
    let all = |values: Vec<Value>| values.into_iter().map(to_object).collect();
    match value {
        Value::None => MontyObject::None,
        Value::Bool(value) => MontyObject::Bool(value),
        Value::Int(number) => MontyObject::Int(number),
        // A value that was read from elsewhere may say anything.
        Value::BigInt(digits) => match digits.parse() {
            Ok(number) => MontyObject::BigInt(number),
            Err(_) => MontyObject::String(digits),
        },
        Value::Float(number) => MontyObject::Float(number),
        Value::Str(text) => MontyObject::String(text),
        Value::Bytes(bytes) => MontyObject::Bytes(bytes),
        Value::List(values) => MontyObject::List(all(values)),
        Value::Tuple(values) => MontyObject::Tuple(all(values)),
        Value::Set(values) => MontyObject::Set(all(values)),
        Value::Dict(entries) => MontyObject::Dict(
            entries
                .into_iter()
                .map(|(key, value)| (to_object(key), to_object(value)))
                .collect(),
        ),
    }
}

/// The value of an object. A frozen set is a set, a named tuple a tuple.
pub(super) fn to_value(object: MontyObject) -> Result<Value, Foreign> {
    let all = |objects: Vec<MontyObject>| objects.into_iter().map(to_value).collect::<Result<_, _>>();
    Ok(match object {
        MontyObject::None => Value::None,
        MontyObject::Bool(value) => Value::Bool(value),
        MontyObject::Int(number) => Value::Int(number),
        MontyObject::BigInt(number) => Value::BigInt(number.to_string()),
        MontyObject::Float(number) => Value::Float(number),
        MontyObject::String(text) => Value::Str(text),
        MontyObject::Bytes(bytes) => Value::Bytes(bytes),
        MontyObject::List(objects) => Value::List(all(objects)?),
        MontyObject::Tuple(objects) | MontyObject::NamedTuple { values: objects, .. } => Value::Tuple(all(objects)?),
        MontyObject::Set(objects) | MontyObject::FrozenSet(objects) => Value::Set(all(objects)?),
        MontyObject::Dict(entries) => Value::Dict(
            entries
                .into_iter()
                .map(|(key, value)| Ok((to_value(key)?, to_value(value)?)))
                .collect::<Result<_, _>>()?,
        ),
        other => return Err(Foreign(name(&other))),
    })
}

/// As the interpreter shows it to people.
pub(super) fn shown(object: MontyObject) -> String {
    match to_value(object.clone()) {
        Ok(value) => value.to_string(),
        Err(_) => object.to_string(),
    }
}

/// What it is, in words for the model.
fn name(object: &MontyObject) -> String {
    match object {
        MontyObject::Function { name, .. } => format!("the function {name}"),
        MontyObject::Exception { exc_type, .. } => format!("an exception ({exc_type})"),
        MontyObject::Repr(shown) if shown.starts_with("<coroutine") => "a launch that was not awaited".to_owned(),
        MontyObject::Repr(shown) => shown.chars().take(60).collect(),
        MontyObject::Cycle(..) => "a container that contains itself".to_owned(),
        other => {
            let mut shown: String = other.to_string().chars().take(60).collect();
            if shown.is_empty() {
                shown = "this object".to_owned();
            }
            shown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        let huge = "123456789012345678901234567890";
        for value in [
            Value::None,
            true.into(),
            Value::Int(i64::MIN),
            Value::BigInt(huge.into()),
            Value::BigInt(format!("-{huge}")),
            Value::Float(-0.1),
            "é\0".into(),
            Value::Bytes(vec![0, 255]),
            vec![Value::Tuple(vec![1_i64.into(), Value::List(Vec::new())])].into(),
            Value::Set(vec![1_i64.into(), "a".into()]),
            Value::Dict(vec![
                (Value::Tuple(vec![1_i64.into()]), Value::None),
                ("a".into(), 2_i64.into()),
            ]),
        ] {
            assert_eq!(to_value(to_object(value.clone())), Ok(value));
        }
    }

    #[test]
    fn what_cannot_leave_its_interpreter_is_named() {
        let function = MontyObject::Function {
            name: "probe".into(),
            docstring: None,
        };
        let error = to_value(MontyObject::List(vec![function])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the function probe cannot be handed over"),
            "{error}"
        );
        let ellipsis = to_value(MontyObject::Ellipsis).unwrap_err();
        assert!(ellipsis.to_string().starts_with("Ellipsis cannot"), "{ellipsis}");
    }
}
