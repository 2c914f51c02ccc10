//! What is known of an error that a task function returned.

use crate::task::call::guarded_serde;
use crate::task::returned::Returned;
use crate::task::{Data, Value, codec};
use serde::de::Deserializer;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The `Err` of a task function: its text, its [sources](Error::source) (the first 64), the name of its type, what its
/// `{:?}` prints, and itself where it was [kept](crate::KeepError). The same in every mode.
///
/// ```
/// use std::error::Error;
/// use swath::error::Cause;
/// use swath::{Client, try_delayed};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("no settings")]
/// struct NoSettings(#[source] std::io::Error);
///
/// let read = try_delayed(|path: String| std::fs::read(path).map_err(NoSettings)).call("/no/such/file");
/// let error = read.compute(&Client::sync()).unwrap_err();
/// let Cause::Returned(returned) = error.task().unwrap().cause() else { panic!() };
/// assert_eq!(returned.to_string(), "no settings");
/// assert!(returned.source().unwrap().to_string().starts_with("No such file"));
/// assert!(returned.type_name().ends_with("NoSettings") && returned.debug().starts_with("NoSettings(Os {"));
/// ```
#[derive(Clone)]
pub struct ReturnedError(Arc<Inner>);

struct Inner {
    /// Its text, and behind that where in a chunk it was.
    message: String,
    /// Bytes of its own text.
    own: usize,
    source: Option<Box<Source>>,
    debug: String,
    type_name: String,
    value: Kept,
}

/// The error itself.
enum Kept {
    No,
    Here(Value),
    Encoded(Vec<u8>),
}

/// The text of a source, and its source.
struct Source {
    text: String,
    source: Option<Box<Source>>,
}

impl ReturnedError {
    /// As this process has it.
    pub(crate) fn local(error: Returned) -> Self {
        let value = error.value.as_ref().map_or(Kept::No, |(value, _)| Kept::Here(value.clone()));
        Self::new(error, value)
    }

    /// As it goes to another process, with itself encoded if it is kept.
    pub(crate) fn encoded(error: Returned, value: Option<Vec<u8>>) -> Self {
        Self::new(error, value.map_or(Kept::No, Kept::Encoded))
    }

    /// A text, as a simulated task returns it.
    #[cfg(test)]
    pub(crate) fn text(text: &'static str) -> Self {
        let (text, debug, type_name) = (text.to_string(), format!("{text:?}"), type_name::<&str>());
        Self::local(Returned { text, place: None, sources: Vec::new(), debug, type_name, value: None })
    }

    fn new(error: Returned, value: Kept) -> Self {
        let message = error.message();
        let (own, type_name) = (error.text.len(), error.type_name.to_string());
        Self(Arc::new(Inner { message, own, source: chain(error.sources), debug: error.debug, type_name, value }))
    }

    /// The error's text; of one at an element of a collection, also where that is.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The error's type.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.0.type_name
    }

    /// What the error's `{:?}` prints.
    #[must_use]
    pub fn debug(&self) -> &str {
        &self.0.debug
    }

    /// The error itself, if it is an `E` that was kept: see [`KeepError`](crate::KeepError). A `String` or `&str` is its
    /// own text, so it comes back as a `String` anyway.
    #[must_use]
    pub fn downcast<E: Data>(&self) -> Option<E> {
        match &self.0.value {
            Kept::Here(value) => value.get::<E>().cloned(),
            Kept::Encoded(bytes) if self.type_name() == type_name::<E>() => {
                guarded_serde("Deserialize", || codec::decode(bytes).ok()).ok()?
            }
            Kept::Encoded(_) => None,
            Kept::No if self.is_text() => Value::new(self.0.message[..self.0.own].to_string()).take(),
            Kept::No => {
                if self.type_name() == type_name::<E>() {
                    log::warn!(
                        "an error of type `{}` was asked for, and only its text has been kept: say `.keep_error()` of \
                         `try_delayed`, or return it in a `KeepError`",
                        self.type_name()
                    );
                }
                None
            }
        }
    }

    fn is_text(&self) -> bool {
        [type_name::<String>(), type_name::<&str>()].contains(&self.type_name())
    }
}

fn chain(texts: Vec<String>) -> Option<Box<Source>> {
    texts.into_iter().rev().fold(None, |source, text| Some(Box::new(Source { text, source })))
}

/// A source as an error.
fn as_error(source: &Option<Box<Source>>) -> Option<&(dyn Error + 'static)> {
    source.as_deref().map(|source| source as _)
}

impl Error for ReturnedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        as_error(&self.0.source)
    }
}

impl fmt::Display for ReturnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// What the error's own `{:?}` printed where it was returned.
impl fmt::Debug for ReturnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.debug)
    }
}

impl Error for Source {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        as_error(&self.source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As it crosses processes.
#[derive(Serialize, Deserialize)]
struct WireError<T, S, B> {
    message: T,
    own: u64,
    sources: S,
    debug: T,
    type_name: T,
    value: Option<B>,
}

impl Serialize for ReturnedError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inner { message, own, debug, type_name, .. } = &*self.0;
        let value: Option<&[u8]> = match &self.0.value {
            Kept::No => None,
            Kept::Encoded(value) => Some(value),
            Kept::Here(_) => {
                return Err(S::Error::custom("the error of a task function is encoded by the worker that ran it"));
            }
        };
        let sources = std::iter::successors(self.0.source.as_deref(), |source| source.source.as_deref());
        let sources: Vec<&str> = sources.map(|source| &*source.text).collect();
        let (message, debug, type_name) = (message.as_str(), debug.as_str(), type_name.as_str());
        WireError { message, own: *own as u64, sources, debug, type_name, value }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReturnedError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireError::<String, Vec<String>, Vec<u8>>::deserialize(deserializer)?;
        let WireError { message, own, sources, debug, type_name, value } = wire;
        // Another process wrote it.
        let own = usize::try_from(own).ok().filter(|own| message.is_char_boundary(*own)).unwrap_or(message.len());
        let value = value.map_or(Kept::No, Kept::Encoded);
        Ok(Self(Arc::new(Inner { message, own, source: chain(sources), debug, type_name, value })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::codec::CodecOf;

    fn returned(type_name: &'static str, sources: &[&str]) -> Returned {
        let sources = sources.iter().map(ToString::to_string).collect();
        let (text, debug) = ("no luck".to_string(), "NoLuck".to_string());
        Returned { text, place: Some("at 3".to_string()), sources, debug, type_name, value: None }
    }

    #[test]
    fn text_type_and_chain_cross_and_a_text_is_the_value() {
        let error = ReturnedError::encoded(returned(type_name::<String>(), &["no money", "no work"]), None);
        let bytes = bincode::serde::encode_to_vec(&error, bincode::config::standard()).expect("encodes");
        let (back, _): (ReturnedError, _) =
            bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).expect("decodes");
        for error in [error, back] {
            let chain: Vec<_> = std::iter::successors(Some(&error as &dyn Error), |&e| e.source()).collect();
            let texts: Vec<_> = chain.iter().map(ToString::to_string).collect();
            assert_eq!(texts, ["no luck (at 3)", "no money", "no work"]);
            assert_eq!((format!("{error:?}").as_str(), error.type_name()), ("NoLuck", type_name::<String>()));
            assert_eq!(error.downcast::<String>().as_deref(), Some("no luck"));
            assert_eq!(error.downcast::<i64>(), None);
        }
    }

    #[test]
    fn an_error_that_nobody_has_encoded_is_refused() {
        let value = Some((Value::new(1_i64), CodecOf::<i64>::CODEC));
        let local = ReturnedError::local(Returned { value, ..returned("i64", &[]) });
        assert_eq!(local.downcast::<i64>(), Some(1));
        assert!(bincode::serde::encode_to_vec(local, bincode::config::standard()).is_err());
    }
}
