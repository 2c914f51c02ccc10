//! Task functions as records that another process of the same build can find.

use super::codec::{self, Codec, CodecOf};
use super::returned::{IntoError, KeepError, Returned, returned};
use super::run_times;
use super::shared_input::SharedInput;
use super::{Data, Value, image};
use crate::ipc::out_of_band::decode_with;
use crate::ipc::payload::Payload;
use parking_lot::Mutex;
use std::any::TypeId;
use std::error::Error;
use std::sync::Arc;

const MAGIC: u64 = 0x7377_6174_685f_666e;

/// One function as the runtime sees it. There is one constant record per function and signature; its offset
/// in the image is its name on the wire.
#[repr(C)]
pub struct Record {
    magic: u64,
    identity: fn() -> TypeId,
    name: fn() -> &'static str,
    run: fn(&mut Args<'_, '_>) -> Result<Value, CallError>,
    result: &'static Codec,
    /// The function that gives the elements of this one's result one after the other, as a [`Passing`] value.
    stream: Option<&'static Record>,
    /// For a function with several results: what is known of the one at a place.
    parts: Option<fn(u32) -> &'static Codec>,
    /// Whether the result is of use only until the process that made it ends.
    bound: bool,
    /// Whether the result is the argument.
    given: bool,
}

impl Record {
    /// The record of the function that the type `I` stands for.
    pub(crate) const fn new<I: ?Sized + 'static>(
        name: fn() -> &'static str,
        run: fn(&mut Args<'_, '_>) -> Result<Value, CallError>,
        result: &'static Codec,
    ) -> Self {
        let identity = TypeId::of::<I>;
        Self { magic: MAGIC, identity, name, run, result, stream: None, parts: None, bound: false, given: false }
    }

    /// The record of a function whose result can also be had element by element.
    pub(crate) const fn with_stream(mut self, stream: &'static Record) -> Self {
        self.stream = Some(stream);
        self
    }

    /// The record of a function whose result stays with the process that makes it, however small it is; what others
    /// get of it names that process.
    pub(crate) const fn bound(mut self) -> Self {
        self.bound = true;
        self
    }

    /// The record of the function of a value that is there already.
    pub(crate) const fn given(mut self) -> Self {
        self.given = true;
        self
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given
    }

    /// The record of a function that gives [`Parts`](super::parts::Parts): `codec` is that of the part at a place.
    pub(crate) const fn with_parts(mut self, codec: fn(u32) -> &'static Codec) -> Self {
        self.parts = Some(codec);
        self
    }

    /// Whether it has several results.
    pub(crate) fn has_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// What the result at a place is encoded with; that of the whole result, where it has only one.
    pub(crate) fn part(&self, place: u32) -> &'static Codec {
        self.parts.map_or(self.result, |codec| codec(place))
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.bound
    }

    pub(crate) fn stream(&self) -> Option<&'static Record> {
        self.stream
    }

    /// Equal for records of the same function. The compiler may make several of them, or one for several functions.
    pub(crate) fn identity(&self) -> TypeId {
        (self.identity)()
    }

    /// The path of the function, as the compiler writes it.
    pub(crate) fn path(&self) -> &'static str {
        (self.name)()
    }

    pub(crate) fn result(&self) -> &'static Codec {
        self.result
    }

    pub(crate) fn run(&self, args: &mut [Argument<'_>]) -> Result<Value, CallError> {
        (self.run)(&mut Args(args))
    }

    /// The record's name on the wire.
    ///
    /// `None` where the function belongs to a shared library, which another process may have elsewhere.
    pub(crate) fn offset(&'static self) -> Option<u64> {
        image::offset_of(self)
    }

    /// Names the record in the log of events: its offset where it has one.
    pub(crate) fn log_id(&'static self) -> u64 {
        image::log_id_of(self)
    }

    /// The record at an offset that came from another process of the same build.
    pub(crate) fn at(offset: u64) -> Option<&'static Record> {
        let record = image::address_of::<Record>(offset)?;
        // SAFETY: `address_of` answers only with aligned addresses whose whole extent lies in a loaded segment of this
        // image, so reading a word there is sound whatever it holds.
        let magic = unsafe { (&raw const (*record).magic).read() };
        // SAFETY: the magic is written nowhere but in records, and the sender has proved in its handshake that it runs
        // the same build, so this is the record it meant. Records are constants: they live as long as the program.
        (magic == MAGIC).then(|| unsafe { &*record })
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({})", self.path())
    }
}

/// An argument on its way into a call.
pub(crate) enum Argument<'a> {
    Value(Value),
    /// Encoded, as it came with the task.
    Bytes(&'a [u8]),
    /// Encoded, with large buffers in shared segments.
    Payload(Payload),
    /// Other tasks of this process read it too. `sole`: none of them is known yet.
    Shared {
        input: Arc<SharedInput>,
        sole: bool,
    },
    Taken,
}

/// A value on its way from one part of a task to the next, taken once: it is neither cloned nor encoded.
pub(crate) struct Passing<T>(Mutex<Option<T>>);

impl<T: Send + 'static> Passing<T> {
    pub(crate) fn value(value: T) -> Value {
        Value::new(Self(Mutex::new(Some(value))))
    }

    /// What is on its way in a value, if that has not been taken.
    pub(crate) fn take(from: &Value) -> Option<T> {
        from.get::<Self>()?.0.lock().take()
    }
}

/// The arguments of one call.
pub struct Args<'s, 'a>(&'s mut [Argument<'a>]);

impl std::fmt::Debug for Args<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} arguments", self.0.len())
    }
}

impl Args<'_, '_> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes argument number `i` for reading: a value that others use too is not cloned.
    pub(crate) fn share<T: Data>(&mut self, i: usize) -> Result<Arc<T>, CallError> {
        match self.0.get_mut(i) {
            Some(Argument::Value(value)) => match value.typed::<T>() {
                Some(value) => {
                    self.0[i] = Argument::Taken;
                    Ok(value)
                }
                None => Err(undecodable::<T>("the value is of another type".to_string())),
            },
            Some(Argument::Shared { input, sole }) => {
                let value = input.share(*sole).map_err(undecodable::<T>);
                self.0[i] = Argument::Taken;
                value
            }
            _ => self.take(i).map(Arc::new),
        }
    }

    /// Takes argument number `i` if it is a [`Passing`] of a `T`.
    pub(crate) fn passed<T: Send + 'static>(&mut self, i: usize) -> Option<T> {
        match self.0.get(i) {
            Some(Argument::Value(value)) => Passing::take(value),
            _ => None,
        }
    }

    /// Takes argument number `i`.
    pub(crate) fn take<T: Data>(&mut self, i: usize) -> Result<T, CallError> {
        let undecodable = undecodable::<T>;
        match self.0.get_mut(i).map(|argument| std::mem::replace(argument, Argument::Taken)) {
            Some(Argument::Value(value)) => {
                value.take().ok_or_else(|| undecodable("the value is of another type".to_string()))
            }
            Some(Argument::Bytes(bytes)) => codec::decode(bytes).map_err(undecodable),
            Some(Argument::Payload(payload)) => {
                let decode = || decode_with(payload.segments(), || codec::decode(payload.content()));
                run_times::reading(payload.content().len(), decode).map_err(undecodable)
            }
            Some(Argument::Shared { input, sole }) => input.take(sole).map_err(undecodable),
            Some(Argument::Taken) | None => Err(undecodable(format!("argument {i} is missing"))),
        }
    }
}

fn undecodable<T>(reason: String) -> CallError {
    CallError::Decode { type_name: std::any::type_name::<T>().to_string(), reason }
}

/// Why a call has no result. Panics are caught further out.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// The function returned `Err`.
    Returned(Box<Returned>),
    /// A value could not be encoded.
    Encode { type_name: String, reason: String },
    /// An argument could not be decoded.
    Decode { type_name: String, reason: String },
    /// An input named another process, which has ended.
    InputLost { reason: String },
    /// A list has another number of items than it was to be taken apart into.
    WrongLength { expected: u64, found: u64 },
}

/// Makes a value of a function that captures nothing out of thin air. Only for records, which are given out only to those
/// who show such a value.
pub(crate) fn conjure<F: Copy + 'static>() -> F {
    const { assert!(size_of::<F>() == 0, "{}", CAPTURES) };
    // SAFETY: a read of no bytes from a pointer that is aligned and not null is sound. A value of `F` exists: the only way
    // to a record of `F` is through a caller that was handed one. `F` is `Copy`, so another one does no harm.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// What the compiler says of a closure that captures.
const CAPTURES: &str = "swath: a task function must not capture variables: it may run in another process. \
                        Pass the values as arguments of the task instead; steps of a bag take one in `map_with`, \
                        `filter_with` and so on";

/// A function that can be a task: any `fn` item or closure that captures nothing, of up to eight arguments.
///
/// `A` is the tuple of its arguments, `R` its result. Sealed: only swath implements it, for all such functions.
#[diagnostic::on_unimplemented(
    message = "this cannot be a task function",
    note = "a task function takes and returns owned values that are `Clone + Send + Sync + 'static` with serde's `Serialize` and `Deserialize`"
)]
pub trait TaskFunction<A, R>: Copy + 'static {
    /// The record of this function.
    #[doc(hidden)]
    const RECORD: &'static Record;
}

/// A function that can be a task and may fail: it returns `Result<T, E>`.
///
/// The task's value is the `T`; an `Err` fails the task. The error is any that becomes a
/// `Box<dyn Error + Send + Sync>`, see [`IntoError`]. Sealed: only swath implements it, for all such functions.
#[diagnostic::on_unimplemented(
    message = "this cannot be a task function that returns a `Result`",
    note = "a task function takes and returns owned values with serde's `Serialize` and `Deserialize`; its error implements `std::error::Error`, or is a text"
)]
pub trait TryTaskFunction<A, T, E>: Copy + 'static {
    /// The record of this function.
    #[doc(hidden)]
    const RECORD: &'static Record;

    /// The record of this function, whose errors are kept as values.
    #[doc(hidden)]
    fn keeping() -> &'static Record
    where
        E: Data + Error;
}

macro_rules! functions {
    ($($arg:ident $at:tt),*) => {
        impl<F, R, $($arg),*> TaskFunction<($($arg,)*), R> for F
        where
            F: Fn($($arg),*) -> R + Copy + 'static,
            R: Data,
            $($arg: Data),*
        {
            const RECORD: &'static Record = {
                assert!(size_of::<F>() == 0, "{}", CAPTURES);
                &Record::new::<F>(
                    std::any::type_name::<F>,
                    |_args| Ok(Value::new(conjure::<F>()($(_args.take::<$arg>($at)?),*))),
                    CodecOf::<R>::CODEC,
                )
            };
        }

        impl<F, T, E, $($arg),*> TryTaskFunction<($($arg,)*), T, E> for F
        where
            F: Fn($($arg),*) -> Result<T, E> + Copy + 'static,
            T: Data,
            E: IntoError,
            $($arg: Data),*
        {
            const RECORD: &'static Record = {
                assert!(size_of::<F>() == 0, "{}", CAPTURES);
                &Record::new::<F>(
                    std::any::type_name::<F>,
                    |_args| match conjure::<F>()($(_args.take::<$arg>($at)?),*) {
                        Ok(value) => Ok(Value::new(value)),
                        Err(error) => Err(returned(error)),
                    },
                    CodecOf::<T>::CODEC,
                )
            };

            fn keeping() -> &'static Record
            where
                E: Data + Error,
            {
                const {
                    assert!(size_of::<F>() == 0, "{}", CAPTURES);
                    &Record::new::<KeepError<F>>(
                        std::any::type_name::<F>,
                        |_args| match conjure::<F>()($(_args.take::<$arg>($at)?),*) {
                            Ok(value) => Ok(Value::new(value)),
                            Err(error) => Err(returned(KeepError(error))),
                        },
                        CodecOf::<T>::CODEC,
                    )
                }
            }
        }
    };
}

functions!();
functions!(A0 0);
functions!(A0 0, A1 1);
functions!(A0 0, A1 1, A2 2);
functions!(A0 0, A1 1, A2 2, A3 3);
functions!(A0 0, A1 1, A2 2, A3 3, A4 4);
functions!(A0 0, A1 1, A2 2, A3 3, A4 4, A5 5);
functions!(A0 0, A1 1, A2 2, A3 3, A4 4, A5 5, A6 6);
functions!(A0 0, A1 1, A2 2, A3 3, A4 4, A5 5, A6 6, A7 7);

/// What users see of a task: its name and its hash.
pub(crate) fn key(name: &str, hash: u64) -> String {
    format!("{name}-{hash:016x}")
}

/// The part of a function's path that a reader wants: `app::load::parse<u8>` is `parse`, a closure in it is
/// `parse-closure`.
pub(crate) fn short_name(path: &str) -> String {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                parts.push(String::new());
            }
            c => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    let closure = parts.iter().any(|p| p.starts_with("{{closure"));
    let name = parts.iter().rev().find(|p| !p.is_empty() && !p.starts_with("{{")).map_or("task", String::as_str);
    if closure { format!("{name}-closure") } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inc(x: i64) -> i64 {
        x + 1
    }

    fn record_of<A, R, F: TaskFunction<A, R>>(_f: F) -> &'static Record {
        F::RECORD
    }

    #[test]
    fn a_record_is_found_by_its_offset_and_runs() {
        let record = record_of(inc);
        let found = Record::at(record.offset().expect("in the image")).expect("a record");
        assert_eq!(found.path(), record.path());
        let value = found.run(&mut [Argument::Value(Value::new(41_i64))]).expect("runs");
        assert_eq!(value.take::<i64>(), Some(42));
    }

    #[test]
    fn a_wrong_or_missing_argument_is_an_error() {
        let record = record_of(inc);
        assert!(matches!(
            record.run(&mut [Argument::Value(Value::new("x".to_string()))]),
            Err(CallError::Decode { .. })
        ));
        assert!(matches!(record.run(&mut [Argument::Bytes(&[])]), Err(CallError::Decode { .. })));
        assert!(matches!(record.run(&mut []), Err(CallError::Decode { .. })));
    }

    #[test]
    fn no_record_is_found_where_there_is_none() {
        let good = record_of(inc).offset().expect("in the image");
        for offset in [8, 4096, 1 << 40, u64::MAX, good + 1, good + 8] {
            assert!(Record::at(offset).is_none(), "at {offset}");
        }
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short_name("app::load::parse"), "parse");
        assert_eq!(short_name("app::load::parse<alloc::vec::Vec<u8>>"), "parse");
        assert_eq!(short_name("app::main::{{closure}}"), "main-closure");
        assert_eq!(short_name("<i64 as core::ops::Add>::add"), "add");
        assert_eq!(short_name("inc"), "inc");
    }
}
