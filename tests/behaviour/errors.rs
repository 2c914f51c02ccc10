//! Tasks that fail, and what is told about it.

use crate::common::{directory, my_role, note, notes, path, role};
use anyhow::Context;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use swath::delayed::{KeepError, value};
use swath::error::{Cause, TaskError};
use swath::status::Mode;
use swath::{Client, Delayed, Error, delayed, try_delayed};

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

impl std::error::Error for Trouble {}

fn half(x: i64) -> Result<i64, Trouble> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(Trouble::Odd(x)) }
}

fn kept_half(x: i64) -> Result<i64, KeepError<Trouble>> {
    Ok(half(x)?)
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
    assert_eq!(try_delayed(half).keep_error().call(10).compute(client).unwrap(), 5);
    let bad = try_delayed(half).keep_error().call(7);
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
    let other =
        try_delayed(|s: String| -> Result<i64, Trouble> { Err(Trouble::Text { of: s }) }).keep_error().call("x");
    assert_eq!(failed(other.compute(client)).downcast(), Some(Trouble::Text { of: "x".to_string() }));
    let future = client.submit(&bad).unwrap();
    assert_eq!(failed(future.result()).downcast::<Trouble>(), Some(Trouble::Odd(7)));
    assert_eq!(failed(future.result()).downcast::<Trouble>(), Some(Trouble::Odd(7)));
}

#[derive(Debug, thiserror::Error)]
#[error("no settings in {file}")]
struct NoSettings {
    file: String,
    source: NoLine,
}

#[derive(Debug, thiserror::Error)]
#[error("line {0} makes no sense")]
struct NoLine(u32, #[source] std::num::ParseIntError);

/// The texts of an error and of all its sources.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

fn returned(error: &TaskError) -> &swath::error::ReturnedError {
    match error.cause() {
        Cause::Returned(returned) => returned,
        other => panic!("{other}"),
    }
}

pub fn errors_that_people_have(client: &Client) {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    let io = try_delayed(|path: String| std::fs::read(path)).call("/no/such/file");
    let json = try_delayed(|s: String| serde_json::from_str::<i64>(&s)).call("");
    let parsed = try_delayed(|s: String| s.parse::<i64>()).call("x");
    let boxed = try_delayed(|s: String| -> Result<i64, Boxed> { Ok(s.parse()?) }).call("x");
    let anyhow = try_delayed(|s: String| -> anyhow::Result<i64> { Ok(s.parse()?) }).call("x");
    let inner = try_delayed(|| delayed(explode).call(1).compute(&Client::sync())).call();
    let text = try_delayed(|| Err::<i64, _>("no luck".to_string())).call();
    let literal = try_delayed(|| Err::<i64, _>("no luck")).call();
    let told = |error: Error| {
        let error = failed::<()>(Err(error));
        let returned = returned(&error);
        assert!(error.to_string().ends_with(&format!("failed: {returned}")), "{error}");
        (returned.to_string(), returned.type_name().to_string(), format!("{returned:?}"), error.downcast::<String>())
    };
    let no_number = "invalid digit found in string";
    let debug = "ParseIntError { kind: InvalidDigit }";
    for (error, text, type_name, debug, value) in [
        (io.compute(client).unwrap_err(), "No such file", "std::io::error::Error", "Os { code: 2", None),
        (json.compute(client).unwrap_err(), "EOF while parsing", "serde_json::error::Error", "Error(\"EOF", None),
        (parsed.compute(client).unwrap_err(), no_number, "core::num::error::ParseIntError", debug, None),
        (boxed.compute(client).unwrap_err(), no_number, "dyn core::error::Error", debug, None),
        (anyhow.compute(client).unwrap_err(), no_number, "anyhow::Error", no_number, None),
        (inner.compute(client).unwrap_err(), "task explode-", "swath::error::Error", "", None),
        (text.compute(client).unwrap_err(), "no luck", "String", "\"no luck\"", Some("no luck")),
        (literal.compute(client).unwrap_err(), "no luck", "&str", "\"no luck\"", Some("no luck")),
    ] {
        let (of, name, shown, kept) = told(error);
        assert!(of.starts_with(text) && name.contains(type_name) && shown.contains(debug), "{of} {name} {shown}");
        assert_eq!(kept.as_deref(), value);
    }
    // Typed errors of others that were not kept are told by their text only, here as everywhere.
    assert_eq!(failed(try_delayed(half).call(7).compute(client)).downcast::<Trouble>(), None);
}

pub fn sources_are_told(client: &Client) {
    fn settings(file: String) -> Result<i64, NoSettings> {
        let line = "x".parse().map_err(|e| NoLine(3, e));
        line.map_err(|source| NoSettings { file, source })
    }
    let wanted = ["line 3 makes no sense", "invalid digit found in string"];
    let bad = try_delayed(settings).call("a.toml");
    let dependent = bad.map(|x: i64| x + 1);
    let future = client.submit(&bad).unwrap();
    let _ = future.result();
    let bag = swath::Bag::from_sequence([1, 2], 1).try_map(|_| settings("b.toml".to_string()));
    for error in [
        bad.compute(client).unwrap_err(),
        dependent.compute(client).unwrap_err(),
        future.result().unwrap_err(),
        (future.delayed() + 1).compute(client).unwrap_err(),
        client.compute(&bag).unwrap_err(),
    ] {
        let texts = chain(&error);
        assert!(texts[0].contains("failed: no settings in ") && texts[1..] == wanted, "{texts:?}");
        let task = failed::<()>(Err(error));
        assert_eq!(chain(&task)[1..], wanted);
        assert_eq!(chain(returned(&task))[1..], wanted);
        assert!(returned(&task).type_name().ends_with("NoSettings"));
        assert!(returned(&task).debug().starts_with("NoSettings { file: "), "{}", returned(&task).debug());
    }
}

pub fn contexts_of_anyhow_are_sources(client: &Client) {
    fn load(file: String) -> anyhow::Result<i64> {
        let text = if file == "a.toml" { Ok("x".to_string()) } else { std::fs::read_to_string(&file) };
        let text = text.with_context(|| format!("cannot read {file}"))?;
        text.parse::<i64>().context("line 3 makes no sense").context("bad settings")
    }
    let parsed = try_delayed(load).call("a.toml");
    let dependent = parsed.map(|x: i64| x + 1);
    let mapped = client.try_map(load, ["a.toml"]).unwrap();
    for error in
        [parsed.compute(client).unwrap_err(), dependent.compute(client).unwrap_err(), mapped[0].result().unwrap_err()]
    {
        let texts = chain(&error);
        assert!(
            texts[0].ends_with("failed: bad settings") || texts[0].contains("failed: bad settings (needed by"),
            "{texts:?}"
        );
        assert_eq!(texts[1..], ["line 3 makes no sense", "invalid digit found in string"]);
        assert!(format!("{error:?}").contains("invalid digit"), "{error:?}");
    }
    let missing = try_delayed(load).call("/no/such/file").compute(client).unwrap_err();
    assert!(missing.to_string().contains("cannot read /no/such/file"), "{missing}");
    assert!(chain(&missing)[1].starts_with("No such file"));
    // An ordinary program: `?` takes an error of swath for one of anyhow's, with its sources.
    fn program(client: &Client) -> anyhow::Result<i64> {
        try_delayed(load).call("a.toml").compute(client).context("the program")
    }
    let texts: Vec<_> = program(client).unwrap_err().chain().map(ToString::to_string).collect();
    assert_eq!((&*texts[0], texts.len()), ("the program", 4));
}

/// A text and sources that are too long for a frame come back whole, also by way of other workers.
pub fn long_errors_keep_their_sources(client: &Client) {
    fn fails(length: u64) -> anyhow::Result<Vec<u64>> {
        let text = |of: &str| of.repeat(length as usize);
        Err(anyhow::Error::msg(text("root ")).context(text("middle ")).context(text("top ")))
    }
    let length = 200_000;
    let bad = try_delayed(fails).call(length);
    let kept = client.persist(&bad).unwrap();
    let sums: Vec<_> =
        (0..8).map(|i: u64| delayed(|xs: Vec<u64>, i: u64| xs.len() as u64 + i).call(&kept, i)).collect();
    for error in sums.iter().map(|sum| sum.compute(client).unwrap_err()) {
        let lengths: Vec<_> = chain(returned(&failed::<()>(Err(error)))).iter().map(String::len).collect();
        assert_eq!(lengths, [4, 7, 5].map(|word| word * length as usize));
    }
}

pub fn kept_errors_of_any_way(client: &Client) {
    let kept = |error: Error| failed::<()>(Err(error)).downcast::<Trouble>();
    let odd = Some(Trouble::Odd(7));
    let call = try_delayed(half).keep_error().name("named").call(7);
    assert_eq!(kept(call.compute(client).unwrap_err()), odd);
    assert_eq!(kept(value(7).try_map(kept_half).compute(client).unwrap_err()), odd);
    assert_eq!(kept(client.try_map(kept_half, [7]).unwrap()[0].result().unwrap_err()), odd);
    let bag = swath::Bag::from_sequence([6, 7], 1);
    assert_eq!(kept(client.compute(&bag.try_map(kept_half)).unwrap_err()), odd);
    let many = try_delayed(half).keep_error().map([2, 7]);
    assert_eq!(kept(client.compute(&many).unwrap_err()), odd);
    // With a source, and as an equal pure call beside one that is not kept.
    let [plain, kept_one] = [try_delayed(half).pure().call(7), try_delayed(half).keep_error().pure().call(7)];
    let futures = client.submit_all(&[plain, kept_one]).unwrap();
    assert_eq!(kept(futures[0].result().unwrap_err()), None);
    assert_eq!(kept(futures[1].result().unwrap_err()), odd);
}

pub fn typed_errors_reach_dependents(client: &Client) {
    let bad = try_delayed(half).keep_error().name("the bad one").call(7);
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
    let mixed: Vec<_> = (0..40).map(|i| try_delayed(half).keep_error().call(i)).collect();
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
    failed(client.compute((&try_delayed(half).keep_error().call(1), &good)));
    assert_eq!(notes(&file).len(), 10);
}

pub fn the_first_failure_counts(client: &Client) {
    let (a, b) = (try_delayed(half).keep_error().call(1), delayed(explode).call(2));
    assert_eq!(failed(client.compute((&a, &b))).key(), a.key());
    assert_eq!(failed(client.compute((&b, &a))).key(), b.key());
    assert_eq!(failed(client.compute(&vec![value(1), a.clone(), b.clone()])).key(), a.key());
}

pub fn try_map_and_chains(client: &Client) {
    let parse = |s: String| s.parse::<i64>().map_err(|e| e.to_string());
    assert_eq!(value("8".to_string()).try_map(parse).try_map(kept_half).compute(client).unwrap(), 4);
    let odd = failed(value("9".to_string()).try_map(parse).try_map(kept_half).compute(client));
    assert_eq!(odd.downcast(), Some(Trouble::Odd(9)));
    let text = failed(value("x".to_string()).try_map(parse).try_map(kept_half).compute(client));
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
    let bad = try_delayed(half).keep_error().call(5);
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

impl std::error::Error for Fussy {}

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
    client.wait(std::slice::from_ref(&future), swath::client::WaitFor::All).unwrap();
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
    let error = failed(try_delayed(|x: i64| Err::<i64, _>(Fussy(x))).keep_error().call(100).compute(client));
    assert!(error.downcast::<Fussy>().is_none());
    assert!(error.to_string().ends_with("fussy 100"), "{error}");
    let error = failed(try_delayed(|x: i64| Err::<i64, _>(Fussy(x))).keep_error().call(-100).compute(client));
    assert!(error.to_string().contains("fussy -100"), "{error}");
    assert_eq!(value(1).compute(client).unwrap(), 1);
}

/// Panics when it is encoded if it is negative, and when it is decoded if it is over 99.
#[derive(Clone, Debug, PartialEq)]
struct Touchy(i64);

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 >= 0, "too deep to be written");
        to.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let x = i64::deserialize(from)?;
        assert!(x < 100, "too high to be read");
        Ok(Self(x))
    }
}

impl fmt::Display for Touchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "touchy {}", self.0)
    }
}

impl std::error::Error for Touchy {}

fn touchy(x: i64) -> Touchy {
    Touchy(x)
}

fn touch(x: Touchy) -> i64 {
    x.0
}

fn is_told_of_writing(type_name: &str, reason: &str) {
    let told = reason.contains("`Serialize` panicked at") && reason.ends_with("too deep to be written");
    assert!(told && reason.contains("errors.rs") && type_name.contains("Touchy"), "{type_name}: {reason}");
}

pub fn values_that_panic_when_they_are_encoded(client: &Client) {
    let call = delayed(touch).call(Touchy(-1));
    let pure = delayed(touch).pure().call(Touchy(-2));
    let given = delayed(touch).call(value(Touchy(-3)));
    if client.mode() != Mode::Processes {
        assert_eq!(client.compute((&call, &pure, &given)).unwrap(), (-1, -2, -3));
        assert_eq!(delayed(touchy).call(-1).compute(client).unwrap(), Touchy(-1));
        assert_eq!(client.scatter(Touchy(-1)).unwrap().result().unwrap(), Touchy(-1));
        return;
    }
    let refused = |error: Error| match error {
        Error::Encode { type_name, reason, .. } => is_told_of_writing(&type_name, &reason),
        other => panic!("{other}"),
    };
    refused(call.compute(client).unwrap_err());
    refused(client.submit(&call).unwrap_err());
    refused(client.persist(&call).unwrap_err());
    refused(pure.compute(client).unwrap_err());
    refused(given.compute(client).unwrap_err());
    refused(client.scatter(Touchy(-1)).unwrap_err());
    refused(client.broadcast(Touchy(-1)).unwrap_err());
    refused(client.map(touch, [Touchy(1), Touchy(-1)]).unwrap_err());
    let long = delayed(|xs: Vec<Touchy>| xs.len()).call((0..3_000).rev().map(|i| Touchy(i - 1)).collect::<Vec<_>>());
    refused(long.compute(client).unwrap_err());
    // What is sent later fails by itself.
    let futures = client.map(touch, (0..2_000).map(|i| Touchy(if i == 1_500 { -1 } else { i % 100 }))).unwrap();
    for (i, future) in (0..).zip(&futures) {
        match future.result() {
            Ok(x) => assert_eq!(x, i % 100),
            Err(error) => match failed::<i64>(Err(error)).cause() {
                Cause::Encode { type_name, reason } if i == 1_500 => is_told_of_writing(type_name, reason),
                other => panic!("{i}: {other}"),
            },
        }
    }
    // Results, sent at once, and asked for later; a small one and a long one.
    let bad = delayed(touchy).call(-1);
    let many = delayed(|n: i64| (0..n).rev().map(|i| Touchy(i - 1)).collect::<Vec<_>>()).call(3_000);
    let future = client.submit(&bad).unwrap();
    for error in [bad.compute(client).err(), future.result().err(), many.compute(client).err()] {
        match failed::<i64>(Err(error.unwrap())).cause() {
            Cause::Encode { type_name, reason } if type_name.contains("Vec") => assert!(reason.contains("panicked")),
            Cause::Encode { type_name, reason } => is_told_of_writing(type_name, reason),
            other => panic!("{other}"),
        }
    }
    assert_eq!(delayed(touch).call(Touchy(2)).compute(client).unwrap(), 2);
    assert!(client.deaths().unwrap().is_empty());
}

pub fn values_that_panic_when_they_are_decoded(client: &Client) {
    if client.mode() != Mode::Processes {
        assert_eq!(delayed(touchy).call(100).compute(client).unwrap(), Touchy(100));
        return;
    }
    let bad = delayed(touchy).call(100);
    let future = client.submit(&bad).unwrap();
    let list = client.compute(&vec![delayed(touchy).call(1), bad.clone()]).unwrap_err();
    let errors = [
        bad.compute(client).unwrap_err(),
        future.result().unwrap_err(),
        client.gather(std::slice::from_ref(&future)).unwrap_err(),
        crate::common::block_on(client.compute_async(&bad)).unwrap_err(),
        list,
    ];
    for error in errors {
        let text = error.to_string();
        assert!(matches!(error, Error::WrongType { .. }), "{text}");
        assert!(text.contains("`Deserialize` panicked at") && text.ends_with("too high to be read"), "{text}");
        assert!(text.contains(&bad.key()), "{text}");
    }
    // In the worker that is to read an argument it is a panic of that task.
    let error = failed(delayed(touch).call(Touchy(100)).compute(client));
    assert!(matches!(error.cause(), Cause::Panic { message, .. } if message == "too high to be read"), "{error}");
    // An error that this side cannot read still has its text.
    let error = failed(try_delayed(|x: i64| Err::<i64, _>(Touchy(x))).keep_error().call(100).compute(client));
    assert!(error.downcast::<Touchy>().is_none());
    assert!(error.to_string().ends_with("touchy 100"), "{error}");
    assert_eq!(value(1).compute(client).unwrap(), 1);
}

/// In threads mode results are walked for their sizes where memory is limited.
#[test]
fn a_value_that_panics_when_its_size_is_taken() {
    let _clean = crate::common::Clean::start();
    let client = Client::builder().mode(Mode::Threads).threads(1).memory_limit("64MB").build().unwrap();
    let made = delayed(touchy).call(-1);
    assert_eq!(delayed(touch).call(&made).compute(&client).unwrap(), -1);
    assert_eq!(made.compute(&client).unwrap(), Touchy(-1));
}

/// A program whose `main` returns what the library returns.
#[test]
fn program() {
    use std::process::Termination;
    let client = || Client::local(1, 1, swath::memory::MemoryLimit::None).unwrap();
    let result = match my_role().as_deref() {
        Some("returned") => {
            try_delayed(|s: String| s.parse().map_err(|e| NoLine(3, e)).map(|_: i64| ())).call("x").compute(&client())
        }
        Some("panics") => delayed(|x: i64| assert!(x < 3, "three\nor more")).call(3).compute(&client()),
        Some("invalid") => Client::local(1, 1, 512).map(drop),
        _ => return,
    };
    let _: std::process::ExitCode = result.report();
}

#[test]
fn what_main_returns_is_printed_for_reading() {
    let stderr = |role_name: &str, backtrace: &str| {
        let mut command = role("behaviour::errors::program", role_name);
        let output = command.env("RUST_BACKTRACE", backtrace).stderr(std::process::Stdio::piped()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let lines = |role_name: &str| stderr(role_name, "0").lines().map(String::from).collect::<Vec<_>>();
    let returned = lines("returned");
    assert!(returned[0].starts_with("Error: task program-closure-"), "{returned:?}");
    assert!(returned[0].ends_with("on worker-0 failed: line 3 makes no sense"), "{returned:?}");
    assert_eq!(returned[1..], ["caused by: invalid digit found in string"]);
    let panics = lines("panics");
    assert!(panics[0].contains(" on worker-0 panicked at ") && panics[0].ends_with(": three"), "{panics:?}");
    assert_eq!(panics[1..], ["or more"]);
    let invalid = lines("invalid");
    assert!(
        invalid.len() == 1 && invalid[0].starts_with("Error: bad value for memory limit: 512 bytes"),
        "{invalid:?}"
    );
    let panics = stderr("panics", "1");
    assert!(panics.contains("or more\n   0: ") && panics.contains("behaviour::errors::program"), "{panics}");
}

#[test]
fn the_structure_is_shown_where_it_is_asked_for() {
    let error = try_delayed(half).call(7).compute(&Client::sync()).unwrap_err();
    let shown = format!("{error:#?}");
    assert!(shown.starts_with("Task(\n    TaskError {") && shown.contains("name: \"half\""), "{shown}");
    assert_eq!(format!("{error:?}"), error.to_string());
    let shown = format!("{:#?}", Client::local(1, 1, 0_u64).unwrap_err());
    assert!(shown.starts_with("Invalid {\n    what: \"memory limit\""), "{shown}");
}
