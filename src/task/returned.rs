//! The errors that task functions return, and what is kept of them.

use super::call::dropping;
use super::codec::{Codec, CodecOf};
use super::function::CallError;
use super::{Data, Value};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Sources of an error that are kept: an error may name itself as its source.
const MOST_SOURCES: usize = 64;

/// What a task function may return as its error: all that becomes a `Box<dyn Error + Send + Sync>`.
///
/// Every type with [`std::error::Error`] does, and so do boxed errors, `anyhow::Error`, `String` and `&'static str`.
/// Implemented for all of them, and for nothing else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task function",
    label = "not an error that a task function can return",
    note = "a task function may return any error that becomes a `Box<dyn std::error::Error + Send + Sync>`: implement `std::error::Error` for the type, or make it a text with `.map_err(|e| e.to_string())`"
)]
pub trait IntoError: Into<Box<dyn Error + Send + Sync>> + 'static {}

#[diagnostic::do_not_recommend]
impl<E: Into<Box<dyn Error + Send + Sync>> + 'static> IntoError for E {}

/// An error that comes back as the value that it is: [`TaskError::downcast`](crate::TaskError::downcast) gives it, in
/// every mode. Of other errors the text, the sources, the type's name and what `{:?}` prints come back.
///
/// A function given to [`try_delayed`](crate::try_delayed) needs no change: say
/// [`keep_error`](crate::DelayedFn::keep_error). Elsewhere the function returns its error in a `KeepError`; `?` puts it
/// there.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use swath::delayed::KeepError;
/// use swath::{Bag, Client};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
/// #[error("{0} is odd")]
/// struct Odd(i64);
///
/// fn half(x: i64) -> Result<i64, KeepError<Odd>> {
///     if x % 2 == 0 { Ok(x / 2) } else { Err(Odd(x).into()) }
/// }
///
/// let halves = Bag::from_sequence([4, 5, 6], 1).try_map(half);
/// let error = halves.compute(&Client::sync()).unwrap_err();
/// assert_eq!(error.task().unwrap().downcast::<Odd>(), Some(Odd(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepError<E>(
    /// The error.
    pub E,
);

impl<E> From<E> for KeepError<E> {
    fn from(error: E) -> Self {
        Self(error)
    }
}

impl<E: Data + Error> From<KeepError<E>> for Box<dyn Error + Send + Sync> {
    fn from(KeepError(error): KeepError<E>) -> Self {
        let error = Arc::new(error);
        Box::new(Kept { error: Arc::clone(&error) as _, value: error.into(), codec: CodecOf::<E>::CODEC })
    }
}

/// An error and its value, which are the same, on the way to [`returned`].
struct Kept {
    error: Arc<dyn Error + Send + Sync>,
    value: Value,
    codec: &'static Codec,
}

impl Error for Kept {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

/// An error that a function has returned.
#[derive(Debug, Clone)]
pub(crate) struct Returned {
    pub(crate) text: String,
    /// Where in a chunk it was, for a reader; otherwise nothing.
    pub(crate) place: Option<String>,
    /// The texts of its source, of that one's source, and so on.
    pub(crate) sources: Vec<String>,
    /// What `{:?}` prints.
    pub(crate) debug: String,
    pub(crate) type_name: &'static str,
    /// The error itself, where that is to be kept.
    pub(crate) value: Option<(Value, &'static Codec)>,
}

impl Returned {
    fn new(error: &dyn Error, type_name: &'static str) -> Self {
        let sources = std::iter::successors(error.source(), |&error| error.source());
        let sources = sources.take(MOST_SOURCES).map(ToString::to_string).collect();
        Self { text: error.to_string(), place: None, sources, debug: format!("{error:?}"), type_name, value: None }
    }

    /// The text, and where it was.
    pub(crate) fn message(&self) -> String {
        self.place.as_ref().map_or_else(|| self.text.clone(), |place| format!("{} ({place})", self.text))
    }
}

/// The error of a call whose function returned `Err(error)`.
pub(crate) fn returned<E: IntoError>(error: E) -> CallError {
    let returned = match error.into().downcast::<Kept>() {
        Ok(kept) => {
            let Kept { error, value, codec } = *kept;
            let returned = Returned::new(&*error, codec.name());
            // The value is the last handle, so that its drop is the runtime's.
            drop(error);
            Returned { value: Some((value, codec)), ..returned }
        }
        Err(error) => {
            let returned = Returned::new(&*error, std::any::type_name::<E>());
            dropping(|| drop(error));
            returned
        }
    };
    CallError::Returned(Box::new(returned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<E: IntoError>(error: E) -> Returned {
        match returned(error) {
            CallError::Returned(returned) => *returned,
            other => unreachable!("{other:?}"),
        }
    }

    /// Its own source.
    #[derive(Debug)]
    struct Itself;

    impl fmt::Display for Itself {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl Error for Itself {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_chain_that_has_no_end_is_cut() {
        assert_eq!(told(Itself).sources.len(), MOST_SOURCES);
    }

    #[test]
    fn a_text_is_its_own_error() {
        let of_text = told("no luck");
        assert_eq!((&*of_text.text, &*of_text.debug, of_text.type_name), ("no luck", "\"no luck\"", "&str"));
        assert!(of_text.value.is_none());
    }
}
