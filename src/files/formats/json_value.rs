//! JSON values as elements.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::Value;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A JSON value that can be an argument, a result, or an element of a bag.
///
/// It is a [`serde_json::Value`], and is used as one (it dereferences to it). That type itself can be read back only from
/// formats that say what comes next, which the one between processes does not; so there this one is written as text.
///
/// ```
/// use swath::bag::Json;
/// use swath::{Bag, Client};
///
/// let records = ["{\"name\": \"Ada\", \"age\": 36}", "{\"name\": \"Alan\", \"age\": 41}"].map(String::from);
/// let names = Bag::from_sequence(records, 2)
///     .try_map(|line| line.parse::<Json>())
///     .filter(|person| person["age"].as_u64() > Some(40))
///     .pluck("name");
/// assert_eq!(names.compute(&Client::sync())?, [Json::from("Alan")]);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json(pub Value);

/// Why a text is no [`Json`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("not JSON: {reason}")]
pub struct JsonError {
    reason: String,
}

impl std::str::FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map(Self).map_err(|e| JsonError { reason: e.to_string() })
    }
}

impl<V: Into<Value>> From<V> for Json {
    fn from(value: V) -> Self {
        Self(value.into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Json {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl DerefMut for Json {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.0
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        serializer.serialize_str(&serde_json::to_string(&self.0).map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Value::deserialize(deserializer).map(Self);
        }
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::codec;

    #[test]
    fn it_comes_back_from_another_process() {
        let value: Json = r#"{"a": [1, 2.5, null, true, "x"], "b": {}}"#.parse().expect("JSON");
        let mut bytes = Vec::new();
        codec::encode(&value, &mut bytes, usize::MAX).expect("encodes");
        assert_eq!(codec::decode::<Json>(&bytes), Ok(value.clone()));
        assert_eq!(serde_json::to_string(&value).expect("text"), value.to_string());
        assert!("{".parse::<Json>().is_err());
    }
}
