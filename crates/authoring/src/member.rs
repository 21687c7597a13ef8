//! Reading members of documents. Names are matched without case, as the original does; an exact match wins.

use serde_json::{Map, Value};

/// The member of that name, if `value` is an object that has it.
pub(crate) fn get<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    find(value.as_object()?, name)
}

/// The member of that name.
pub(crate) fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// The member of that name, for changing it.
pub(crate) fn get_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let object = value.as_object_mut()?;
    let key = spelled(object, name)?;
    object.get_mut(&key)
}

/// How the document spells that member.
pub(crate) fn spelled(object: &Map<String, Value>, name: &str) -> Option<String> {
    if object.contains_key(name) {
        return Some(name.to_owned());
    }
    object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned()
}

/// A member that is there and not null.
pub(crate) fn present<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    get(value, name).filter(|member| !member.is_null())
}

/// A member that is a text.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    get(value, name)?.as_str()
}

/// True or false, which may be written as text.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str().and_then(|text| text.to_ascii_lowercase().parse().ok()))
}

/// A whole number from 0 on, which may be written as text.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}

/// The `type` of an object, or the empty text.
pub(crate) fn type_of(value: &Value) -> &str {
    text(value, "type").unwrap_or_default()
}

/// `properties` of a whole document, or the document itself where it was sent without the envelope.
pub(crate) fn properties(document: &Value) -> &Value {
    get(document, "properties").unwrap_or(document)
}

/// `properties.typeProperties`, or null.
pub(crate) fn type_properties(document: &Value) -> &Value {
    get(properties(document), "typeProperties").unwrap_or(&Value::Null)
}

/// The items of a member that is an array; nothing otherwise.
pub(crate) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    get(value, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
