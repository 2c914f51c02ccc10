//! Tasks that fail, and what is told about it.

use crate::common::{directory, note, notes, path};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use swath::{Cause, Client, Delayed, Error, Mode, TaskError, delayed, try_delayed, value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Trouble {
    Odd(i64),
    Text { of: String },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trouble with {self:?}")
    }
}

fn half(x: i64) -> Result<i64, Trouble> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(Trouble::Odd(x)) }
}

fn explode(x: i64) -> i64 {
    panic!("cannot do {x}")
}

fn failed<T: fmt::Debug>(result: Result<T, Error>) -> TaskError {
    match result {
        Err(Error::Task(e)) => e,
        other => panic!("not a failed task: {other:?}"),
    }
}

pub fn typed_errors_are_kept(client: &Client) {
    assert_eq!(try_delayed(half).call(10).compute(client).unwrap(), 5);
    let bad = try_delayed(half).call(7);
    let error = failed(bad.compute(client));
    assert_eq!(error.downcast::<Trouble>(), Some(Trouble::Odd(7)));
    assert_eq!(error.downcast::<String>(), None);
    assert_eq!((error.key(), error.name()), (&*bad.key(), "half"));
    assert!(error.worker().is_some() && error.needed_by().is_none());
    let Cause::Returned(returned) = error.cause() else { panic!("{error}") };
    assert_eq!(returned.message(), "trouble with Odd(7)");
    assert!(returned.type_name().ends_with("Trouble"));
    let text = error.to_string();
    assert!(text.contains(&bad.key()) && text.ends_with("failed: trouble with Odd(7)"), "{text}");
    let other = try_delayed(|s: String| -> Result<i64, Trouble> { Err(Trouble::Text { of: s }) }).call("x");
    assert_eq!(failed(other.compute(client)).downcast(), Some(Trouble::Text { of: "x".to_string() }));
    let future = client.submit(&bad).unwrap();
    assert_eq!(failed(future.result()).downcast::<Trouble>(), Some(Trouble::Odd(7)));
    assert_eq!(failed(future.result()).downcast::<Trouble>(), Some(Trouble::Odd(7)));
}

pub fn typed_errors_reach_dependents(client: &Client) {
    let bad = try_delayed(half).name("the bad one").call(7);
    let mut last = &bad + 1;
    for _ in 0..20 {
        last = delayed(|a: i64, b: i64| a + b).call(&last, value(1));
    }
    let list = delayed(|xs: Vec<i64>| xs.len()).call(vec![value(1), last.clone()]);
    for (error, needed) in [(failed(last.compute(client)), last.key()), (failed(list.compute(client)), list.key())] {
        assert_eq!(error.downcast::<Trouble>(), Some(Trouble::Odd(7)));
        assert_eq!((error.key(), error.name()), (&*bad.key(), "the bad one"));
        assert_eq!(error.needed_by(), Some(&*needed));
        assert!(error.to_string().contains(&needed), "{error}");
    }
    // Across graphs.
    let future = client.submit(&bad).unwrap();
    let later = client.submit(&(future.delayed() * 2)).unwrap();
    let error = failed(later.result());
    assert_eq!(error.downcast::<Trouble>(), Some(Trouble::Odd(7)));
    assert_eq!(error.key(), bad.key());
}

pub fn panics_tell_where(client: &Client) {
    let bad = delayed(explode).call(3);
    let error = failed((&bad + 1).compute(client));
    let Cause::Panic { message, location, .. } = error.cause() else { panic!("{error}") };
    assert_eq!(message, "cannot do 3");
    assert!(location.contains("errors.rs:"), "{location}");
    assert_eq!((error.key(), error.name()), (&*bad.key(), "explode"));
    assert!(error.to_string().contains("panicked at"), "{error}");
}

pub fn other_panics(client: &Client) {
    let message = |error: TaskError| match error.cause() {
        Cause::Panic { message, .. } => message.clone(),
        other => panic!("{other:?}"),
    };
    let literal = delayed(|| -> i64 { panic!("a literal") }).call();
    assert_eq!(message(failed(literal.compute(client))), "a literal");
    let any = delayed(|| -> i64 { std::panic::panic_any(17_u8) }).call();
    message(failed(any.compute(client)));
    let overflow = delayed(|x: u8| x + 1).call(255);
    assert!(message(failed(overflow.compute(client))).contains("overflow"));
    let none = delayed(|x: Option<i64>| x.unwrap()).call(None::<i64>);
    assert!(message(failed(none.compute(client))).contains("None"));
    // The workers live on.
    assert_eq!(value(1).compute(client).unwrap(), 1);
    assert!(client.deaths().unwrap().is_empty());
}

pub fn others_go_on(client: &Client) {
    let mixed: Vec<_> = (0..40).map(|i| try_delayed(half).call(i)).collect();
    let futures = client.submit_all(&mixed).unwrap();
    for (i, f) in (0..).zip(&futures) {
        match f.result() {
            Ok(x) => assert_eq!((x * 2, i % 2), (i, 0)),
            Err(e) => assert_eq!(e.task().unwrap().downcast(), Some(Trouble::Odd(i))),
        }
    }
    // All of the graph has ended by the time an error is told.
    let dir = directory();
    let file = path(&dir, "runs");
    let good: Vec<_> = (0..10).map(|i| delayed(|f: String, i: i64| note(&f, i)).call(&*file, i)).collect();
    failed(client.compute((&try_delayed(half).call(1), &good)));
    assert_eq!(notes(&file).len(), 10);
}

pub fn the_first_failure_counts(client: &Client) {
    let (a, b) = (try_delayed(half).call(1), delayed(explode).call(2));
    assert_eq!(failed(client.compute((&a, &b))).key(), a.key());
    assert_eq!(failed(client.compute((&b, &a))).key(), b.key());
    assert_eq!(failed(client.compute(&vec![value(1), a.clone(), b.clone()])).key(), a.key());
}

pub fn try_map_and_chains(client: &Client) {
    let parse = |s: String| s.parse::<i64>().map_err(|e| e.to_string());
    assert_eq!(value("8".to_string()).try_map(parse).try_map(half).compute(client).unwrap(), 4);
    let odd = failed(value("9".to_string()).try_map(parse).try_map(half).compute(client));
    assert_eq!(odd.downcast(), Some(Trouble::Odd(9)));
    let text = failed(value("x".to_string()).try_map(parse).try_map(half).compute(client));
    assert!(text.downcast::<String>().unwrap().contains("invalid digit"));
}

pub fn results_as_plain_values(client: &Client) {
    let kept: Delayed<Result<i64, Trouble>> = delayed(half).call(3);
    assert_eq!(kept.compute(client).unwrap(), Err(Trouble::Odd(3)));
    let recovered = kept.map(|r: Result<i64, Trouble>| r.unwrap_or(-1));
    assert_eq!(recovered.compute(client).unwrap(), -1);
}

pub fn failures_of_operators(client: &Client) {
    let error = failed((value(1) / value(0)).compute(client));
    assert_eq!(error.name(), "div");
    assert!(matches!(error.cause(), Cause::Panic { message, .. } if message.contains("divide by zero")), "{error}");
}

pub fn error_of_a_persisted_value(client: &Client) {
    let bad = try_delayed(half).call(5);
    let kept = bad.persist(client).unwrap();
    let error = failed((&kept + 1).compute(client));
    assert_eq!(error.downcast(), Some(Trouble::Odd(5)));
    assert_eq!(error.key(), bad.key());
}

/// Cannot be encoded when it is negative, nor decoded when it is over 99.
#[derive(Clone, Debug, PartialEq)]
struct Fussy(i64);

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0.. => to.serialize_i64(self.0),
            _ => Err(serde::ser::Error::custom("too cold to travel")),
        }
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match i64::deserialize(from)? {
            x @ ..100 => Ok(Self(x)),
            _ => Err(serde::de::Error::custom("too hot to arrive")),
        }
    }
}

impl fmt::Display for Fussy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fussy {}", self.0)
    }
}

fn make(x: i64) -> Fussy {
    Fussy(x)
}

fn read(f: Fussy) -> i64 {
    f.0
}

pub fn unencodable_values(client: &Client) {
    assert_eq!(delayed(read).call(Fussy(1)).compute(client).unwrap(), 1);
    if client.mode() != Mode::Processes {
        // Nothing is encoded where nothing leaves the process.
        assert_eq!(delayed(read).call(Fussy(-1)).compute(client).unwrap(), -1);
        assert_eq!(delayed(make).call(-1).compute(client).unwrap(), Fussy(-1));
        return;
    }
    let call = delayed(read).call(Fussy(-1));
    match call.compute(client).unwrap_err() {
        Error::Encode { key, type_name, reason } => {
            assert_eq!(key, call.key());
            assert!(type_name.ends_with("Fussy") && reason.contains("too cold"), "{type_name}: {reason}");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(client.submit(&call).unwrap_err(), Error::Encode { .. }));
    assert!(matches!(client.scatter(Fussy(-1)).unwrap_err(), Error::Encode { .. }));
    let bad = delayed(make).call(-1);
    let error = failed(bad.compute(client));
    match error.cause() {
        Cause::Encode { type_name, reason } => {
            assert!(type_name.ends_with("Fussy") && reason.contains("too cold"), "{error}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(error.key(), bad.key());
    // Kept where it ran, and only then wanted here: by then nothing else is left of its graph.
    let future = client.submit(&bad).unwrap();
    client.wait(std::slice::from_ref(&future), swath::WaitFor::All, None).unwrap();
    let error = failed(future.result());
    assert!(matches!(error.cause(), Cause::Encode { .. }));
    assert_eq!((error.key(), error.name(), error.needed_by()), (&*bad.key(), "make", None));
    assert_eq!(delayed(read).call(Fussy(2)).compute(client).unwrap(), 2);
}

pub fn undecodable_values(client: &Client) {
    if client.mode() != Mode::Processes {
        assert_eq!(delayed(make).call(100).compute(client).unwrap(), Fussy(100));
        return;
    }
    // A result that this side cannot read.
    let bad = delayed(make).call(100);
    for error in [bad.compute(client).unwrap_err(), client.submit(&bad).unwrap().result().unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("too hot") && text.contains("Fussy") && text.contains(&bad.key()), "{text}");
    }
    // An argument that the worker cannot read.
    let call = delayed(read).call(Fussy(100));
    let error = failed(call.compute(client));
    assert!(matches!(error.cause(), Cause::Decode { reason, .. } if reason.contains("too hot")), "{error}");
    assert_eq!(error.key(), call.key());
    // An error that this side cannot read still has its text.
    let error = failed(try_delayed(|x: i64| Err::<i64, _>(Fussy(x))).call(100).compute(client));
    assert!(error.downcast::<Fussy>().is_none());
    assert!(error.to_string().ends_with("fussy 100"), "{error}");
    let error = failed(try_delayed(|x: i64| Err::<i64, _>(Fussy(x))).call(-100).compute(client));
    assert!(error.to_string().contains("fussy -100"), "{error}");
    assert_eq!(value(1).compute(client).unwrap(), 1);
}
