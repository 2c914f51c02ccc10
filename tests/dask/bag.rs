//! `Bag` against `dask.bag`. Where it differs on purpose, `DEVIATIONS` says so, and so does docs/DASK.md.

use super::python::{ask, clean};
use crate::common::processes;
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::ops::Neg;
use std::path::Path;
use std::sync::LazyLock;
use swath::files::{Files, Output};
use swath::{Bag, Client, Delayed, Result};

/// What differs on purpose: an operation, and whether what Dask and we say of it differ in the way that is meant.
struct Deviation {
    operation: &'static str,
    is_meant: fn(dask: &Value, ours: &Value) -> bool,
}

const DEVIATIONS: &[Deviation] = &[
    // An error there; here there is a value for it.
    Deviation { operation: "min", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    Deviation { operation: "max", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    Deviation { operation: "reduce", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    // NaN is `null` in JSON.
    Deviation { operation: "mean", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    Deviation { operation: "var", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    Deviation { operation: "std", is_meant: |dask, ours| is_error(dask) && ours["value"].is_null() },
    Deviation {
        operation: "fold",
        is_meant: |dask, ours| is_error(dask) && [json!(0), json!(5), json!([]), json!("")].contains(&ours["value"]),
    },
    Deviation { operation: "accumulate", is_meant: |dask, ours| is_error(dask) && ours["partitions"].is_array() },
    Deviation { operation: "take", is_meant: |dask, ours| is_error(dask) && ours["value"].is_array() },
    // The other way round: pairs are not dropped in silence.
    Deviation { operation: "zip", is_meant: |dask, ours| dask["partitions"].is_array() && is_error(ours) },
    Deviation { operation: "zip_all", is_meant: |dask, ours| dask["partitions"].is_array() && is_error(ours) },
    Deviation { operation: "map2", is_meant: |dask, ours| dask["partitions"].is_array() && is_error(ours) },
    // Nothing of nothing.
    Deviation { operation: "sample", is_meant: |dask, ours| is_error(dask) && ours["value"] == json!([]) },
    // The same elements, in partitions that are more alike.
    Deviation { operation: "repartition", is_meant: has_more_even_partitions },
    Deviation { operation: "repartition_by_size", is_meant: |dask, ours| elements(dask) == elements(ours) },
    Deviation { operation: "from_sequence", is_meant: |dask, ours| total(dask) == total(ours) && is_even(ours) },
    Deviation {
        operation: "range",
        is_meant: |dask, ours| is_error(dask) || total(dask) == total(ours) && is_even(ours),
    },
    Deviation { operation: "read_text", is_meant: |dask, ours| elements(dask) == elements(ours) },
    Deviation { operation: "write_text", is_meant: writes_line_ends },
];

fn is_error(answer: &Value) -> bool {
    answer.get("error").is_some()
}

fn elements(answer: &Value) -> Vec<Value> {
    answer["partitions"].as_array().unwrap().iter().flat_map(|part| part.as_array().unwrap().clone()).collect()
}

fn lengths(answer: &Value) -> Vec<usize> {
    answer["partitions"].as_array().unwrap().iter().map(|part| part.as_array().unwrap().len()).collect()
}

fn has_more_even_partitions(dask: &Value, ours: &Value) -> bool {
    let longest = |answer: &Value| lengths(answer).into_iter().max();
    elements(dask) == elements(ours) && lengths(dask).len() == lengths(ours).len() && longest(ours) <= longest(dask)
}

fn numbers_of(answer: &Value) -> Vec<u64> {
    answer["value"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

fn total(answer: &Value) -> u64 {
    numbers_of(answer).iter().sum()
}

fn is_even(answer: &Value) -> bool {
    let sizes = numbers_of(answer);
    sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1
}

/// Each line ends, and a file without lines is empty.
fn writes_line_ends(dask: &Value, ours: &Value) -> bool {
    let files =
        |answer: &Value| -> BTreeMap<String, String> { serde_json::from_value(answer["value"].clone()).unwrap() };
    let ended = |(name, text): (String, String)| {
        let lines = text.trim_end_matches('\n');
        (name, if lines.is_empty() { String::new() } else { format!("{lines}\n") })
    };
    files(dask).into_iter().map(ended).collect::<BTreeMap<_, _>>() == files(ours)
}

/// An operation as an answer of the form in which Dask's comes.
fn outcome(result: Result<Value>) -> Value {
    result.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

fn made<T: Serialize + swath::Data>(bag: &Bag<T>, client: &Client) -> Result<Value> {
    Ok(json!({ "partitions": client.compute(&bag.to_delayed())? }))
}

fn value<T: Serialize + swath::Data>(value: Delayed<T>, client: &Client) -> Result<Value> {
    Ok(json!({ "value": client.compute(&value)? }))
}

fn value_of(value: Vec<i64>) -> Result<Value> {
    Ok(json!({ "value": value }))
}

/// Groups in the order of their keys.
fn groups<K: Serialize + swath::Data + Ord, T: Serialize + swath::Data>(
    bag: &Bag<(K, Vec<T>)>,
    client: &Client,
) -> Result<Value> {
    let groups: BTreeMap<K, Vec<T>> = bag.compute(client)?.into_iter().collect();
    Ok(json!({ "value": groups.into_iter().collect::<Vec<_>>() }))
}

type Operation<T> = fn(&Bag<T>, &Client) -> Result<Value>;

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn step(total: &i64, x: i64) -> i64 {
    (3 * total + x).rem_euclid(1009)
}

fn append(mut list: Vec<i64>, x: i64) -> Vec<i64> {
    list.push(x);
    list
}

fn join(a: Vec<i64>, b: Vec<i64>) -> Vec<i64> {
    [a, b].concat()
}

fn thirds(x: &i64) -> i64 {
    x.rem_euclid(3)
}

fn is_even_number(x: &i64) -> bool {
    x.rem_euclid(2) == 0
}

fn named(x: i64) -> BTreeMap<String, i64> {
    (!is_even_number(&x)).then(|| ("n".to_string(), x)).into_iter().collect()
}

/// How a reduction is put together: which partitions, in which tree.
fn shape(bag: Bag<i64>, client: &Client) -> Result<Value> {
    value(bag.reduction(|part| format!("p{}", part.count()), |parts| format!("({})", parts.join(" "))), client)
}

const NUMBERS: &[(&str, Operation<i64>)] = &[
    ("map", |b, c| made(&b.map(|x| 2 * x + 1), c)),
    ("map_with value", |b, c| made(&b.map_with(|x, y: &i64| x + y, 10), c)),
    ("map_with lazy", |b, c| made(&b.map_with(|x, n: &usize| x + *n as i64, b.count()), c)),
    ("filter", |b, c| made(&b.filter(is_even_number), c)),
    ("remove", |b, c| made(&b.remove(is_even_number), c)),
    ("flat_map", |b, c| made(&b.flat_map(|x| 0..x.rem_euclid(3)), c)),
    ("flatten", |b, c| made(&b.map(|x| vec![x, -x]).flatten(), c)),
    ("starmap", |b, c| made(&b.map(|x| (x, x + 1)).starmap(|x, y| x * y), c)),
    ("map_partitions", |b, c| made(&b.map_partitions(|part| [part.sum::<i64>(), 7]), c)),
    ("map_partitions_with", |b, c| made(&b.map_partitions_with(|part, n| part.map(move |x| x * *n), 3_i64), c)),
    ("pluck", |b, c| made(&b.map(|x| BTreeMap::from([("n".to_string(), x)])).pluck("n"), c)),
    ("pluck missing", |b, c| made(&b.map(named).pluck("n"), c)),
    ("pluck_or", |b, c| made(&b.map(named).pluck_or("n", -1), c)),
    ("pluck place", |b, c| made(&b.map(|x| vec![x, 10 * x]).pluck(&1), c)),
    ("unzip", |b, c| made(&b.map(|x| (x, -x)).unzip().1, c)),
    ("zip", |b, c| made(&b.zip(&b.map(i64::neg))?, c)),
    ("zip uneven", |b, c| made(&b.zip(&b.filter(is_even_number))?, c)),
    ("zip_all", |b, c| made(&Bag::zip_all([b.clone(), b.map(i64::neg), b.clone()])?, c)),
    ("zip_all uneven", |b, c| made(&Bag::zip_all([b.clone(), b.clone(), b.filter(is_even_number)])?, c)),
    ("map2", |b, c| made(&b.map2(&b.map(|x| 3 * x), |x, y| 2 * x - y)?, c)),
    ("map2 uneven", |b, c| made(&b.map2(&b.filter(is_even_number), add)?, c)),
    ("map2 partitions", |b, c| made(&b.map2(&Bag::concat([b.clone(), b.clone()]), add)?, c)),
    ("map3", |b, c| made(&b.map3(&b.map(i64::neg), &b.map(|x| 2 * x), |x, y, z| vec![x, y, z])?, c)),
    ("sample", |b, c| {
        let mut all = b.sample(b.count().compute(c)?, 1).compute(c)?;
        all.sort_unstable();
        value_of(all)
    }),
    ("sample too_many", |b, c| value_of(b.sample(b.count().compute(c)? + 1, 1).compute(c)?)),
    ("choices", |b, c| {
        let mut found = b.map(|_| 7).choices(5, 1).compute(c)?;
        found.dedup();
        value_of(found)
    }),
    ("concat", |b, c| made(&Bag::concat([b.clone(), b.map(i64::neg), b.clone()]), c)),
    ("product", |b, c| made(&b.product(&b.filter(|x| *x > 3)), c)),
    ("join", |b, c| made(&b.join(vec![0, 11, 1, 12, 4, 5], thirds, |y: &i64| y % 10), c)),
    ("accumulate", |b, c| made(&b.accumulate(step), c)),
    ("accumulate_from", |b, c| made(&b.accumulate_from(-1, step), c)),
    ("repartition 1", |b, c| made(&b.repartition(1), c)),
    ("repartition 2", |b, c| made(&b.repartition(2), c)),
    ("repartition 3", |b, c| made(&b.repartition(3), c)),
    ("repartition 7", |b, c| made(&b.repartition(7), c)),
    ("repartition 40", |b, c| made(&b.repartition(40), c)),
    ("repartition_by_size", |b, c| made(&b.repartition_by_size(c, 24)?, c)),
    ("random_sample none", |b, c| made(&b.random_sample(0.0, 1)?, c)),
    ("random_sample all", |b, c| made(&b.random_sample(1.0, 1)?, c)),
    ("random_sample wrong", |b, c| made(&b.random_sample(1.5, 1)?, c)),
    ("count", |b, c| value(b.count(), c)),
    ("sum", |b, c| value(b.sum(), c)),
    ("min", |b, c| value(b.min(), c)),
    ("max", |b, c| value(b.max(), c)),
    ("mean", |b, c| value(b.mean(), c)),
    ("var 0", |b, c| value(b.var(0), c)),
    ("var 1", |b, c| value(b.var(1), c)),
    ("std 0", |b, c| value(b.std(0), c)),
    ("std 1", |b, c| value(b.std(1), c)),
    ("any", |b, c| value(b.any(|x| *x > 4), c)),
    ("all", |b, c| value(b.all(|x| *x > 0), c)),
    ("topk 3", |b, c| made(&b.topk(3), c)),
    ("topk 100", |b, c| made(&b.topk(100), c)),
    ("topk_by_key ties", |b, c| made(&b.topk_by_key(4, |x| x.rem_euclid(4)), c)),
    ("topk_by_key split 2", |b, c| made(&b.split_every(2).topk_by_key(4, |x| x.rem_euclid(4)), c)),
    ("frequencies", |b, c| made(&b.frequencies(), c)),
    ("frequencies split 2", |b, c| made(&b.split_every(2).frequencies(), c)),
    ("frequencies sorted", |b, c| made(&b.frequencies().topk_by_key(usize::MAX, |(_, n)| *n), c)),
    ("distinct", |b, c| made(&b.distinct(), c)),
    ("distinct_by_key", |b, c| made(&b.distinct_by_key(thirds), c)),
    ("fold", |b, c| value(b.fold(0, add, add), c)),
    ("fold initial 5", |b, c| value(b.fold(5, add, add), c)),
    ("fold list", |b, c| value(b.fold(Vec::new(), append, join), c)),
    ("fold list split 2", |b, c| value(b.split_every(2).fold(Vec::new(), append, join), c)),
    ("reduce", |b, c| value(b.reduce(add), c)),
    ("reduction", |b, c| shape(b.clone(), c)),
    ("reduction split 2", |b, c| shape(b.split_every(2), c)),
    ("reduction split 3", |b, c| shape(b.split_every(3), c)),
    ("foldby", |b, c| made(&b.foldby(thirds, 5, add, add), c)),
    ("foldby list", |b, c| made(&b.foldby(thirds, Vec::new(), append, join), c)),
    ("foldby list split 2", |b, c| made(&b.split_every(2).foldby(thirds, Vec::new(), append, join), c)),
    ("groupby", |b, c| groups(&b.groupby(thirds, None), c)),
    ("take 2", |b, c| value(b.take(2, 1), c)),
    ("take 0", |b, c| value(b.take(0, 1), c)),
    ("take 3 of 2", |b, c| value(b.take(3, 2), c)),
    ("take 5 of all", |b, c| value(b.take(5, usize::MAX), c)),
    ("take 2 warns", |b, _| warns(b, 2, 1)),
    ("take 5 of all warns", |b, _| warns(b, 5, usize::MAX)),
];

const WORDS: &[(&str, Operation<String>)] = &[
    ("map", |b, c| made(&b.map(|w| w.to_uppercase()), c)),
    ("flat_map", |b, c| made(&b.flat_map(|w| w.chars().collect::<Vec<_>>()), c)),
    ("join", |b, c| {
        let others = ["apple", "bread", "avocado"].map(String::from).to_vec();
        made(&b.join(others, |w| w.chars().next(), |w: &String| w.chars().next()), c)
    }),
    ("min", |b, c| value(b.min(), c)),
    ("max", |b, c| value(b.max(), c)),
    ("topk_by_key", |b, c| made(&b.topk_by_key(4, |w| w.chars().count()), c)),
    ("frequencies", |b, c| made(&b.frequencies(), c)),
    ("distinct", |b, c| made(&b.distinct(), c)),
    ("distinct_by_key", |b, c| made(&b.distinct_by_key(|w| w.chars().count()), c)),
    ("fold", |b, c| value(b.fold(String::new(), |a, w| a + &w, |a, b| a + &b), c)),
    ("accumulate", |b, c| made(&b.accumulate(|a, w| format!("{a}{w}")), c)),
    ("accumulate_from", |b, c| made(&b.accumulate_from("-".to_string(), |a, w| format!("{a}{w}")), c)),
    ("foldby", |b, c| made(&b.foldby(|w| initial(w), String::new(), |a, w| a + &w, |a, b| a + &b), c)),
    ("foldby_ref", |b, c| made(&b.foldby_ref(|w| first_letter(w), 0, |n, _| n + 1, |a, b| a + b), c)),
    ("groupby", |b, c| groups(&b.groupby(|w| w.chars().count(), None), c)),
];

fn first_letter(word: &str) -> &str {
    &word[..word.chars().next().map_or(0, char::len_utf8)]
}

fn initial(word: &str) -> String {
    first_letter(word).to_string()
}

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what a thread logs.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Has threads keep what they log, unless that is so already. It must come before any other logger.
pub fn keep_logs() {
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Warn);
}

/// Whether too few elements are a warning. In this thread, whose log can be told from others.
fn warns(bag: &Bag<i64>, k: usize, npartitions: usize) -> Result<Value> {
    LOGGED.take();
    bag.take(k, npartitions).compute(&Client::sync())?;
    Ok(json!({ "value": LOGGED.take().iter().any(|line| line.starts_with("`take` found")) }))
}

/// What goes to Dask, and what comes from there.
struct Comparison {
    numbers: BTreeMap<&'static str, Vec<Vec<i64>>>,
    words: BTreeMap<&'static str, Vec<Vec<String>>>,
    sequences: Vec<(i64, Option<usize>)>,
    ranges: Vec<(i64, usize)>,
    folder: tempfile::TempDir,
    dask: Value,
}

impl Comparison {
    fn new() -> Self {
        let numbers = BTreeMap::from([
            ("one empty partition", vec![vec![]]),
            ("empty partitions", vec![vec![]; 3]),
            ("one element", vec![vec![5]]),
            ("one partition", vec![vec![3, 1, 2, 3]]),
            ("uneven", vec![vec![1, 2, 3], vec![4], vec![5, 6, -7, 8, 9, 10], vec![]]),
            ("the first is empty", vec![vec![], vec![3, 3], vec![1, 3, 2, 2]]),
            ("the second is empty", vec![vec![7, 1], vec![], vec![1, 7]]),
            ("even", vec![vec![2, 4], vec![6, 8, 2], vec![0]]),
            ("many", (0..20).map(|i| vec![i, i * i % 7]).collect()),
            ("many, mostly empty", (0..20).map(|i| if i % 9 == 4 { vec![i, -i] } else { vec![] }).collect()),
        ]);
        let text = "it was the best of times it was the worst of times";
        let words = BTreeMap::from([
            ("one empty partition", vec![vec![]]),
            ("empty words", vec![vec![String::new(), "a".to_string()], vec![String::new()]]),
            ("text", text.split(' ').map(String::from).collect::<Vec<_>>().chunks(3).map(<[_]>::to_vec).collect()),
            ("not ASCII", vec![vec!["öl".to_string(), "über".to_string()], vec!["ölig".to_string()]]),
        ]);
        let sequences = [(0, None), (1, None), (99, None), (100, None), (10, Some(2)), (10, Some(3)), (3, Some(10))];
        let sequences = [&sequences[..], &[(1000, Some(10)), (1000, None), (103, Some(10))]].concat();
        let ranges = vec![(10, 5), (10, 3), (100, 10), (3, 10), (0, 1)];
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one two\nthree\n\nfour").unwrap();
        fs::write(folder.path().join("b.txt"), "five\nsix seven\n").unwrap();
        for written in ["a", "b", "c"] {
            fs::create_dir_all(folder.path().join("dask").join(written)).unwrap();
        }
        let asked = json!({
            "numbers": numbers, "words": words, "sequences": sequences, "ranges": ranges,
            "pattern": folder.path().join("*.txt"), "folder": folder.path().join("dask"),
        });
        let dask = ask("bag.py", &asked);
        Self { numbers, words, sequences, ranges, folder, dask }
    }

    fn pattern(&self) -> Files {
        Files::new(self.folder.path().join("*.txt")).keep_line_ends()
    }
}

static COMPARISON: LazyLock<Comparison> = LazyLock::new(Comparison::new);

/// Numbers of Dask's are sums of other roundings.
fn is_near(a: &Value, b: &Value) -> bool {
    a == b
        || a["value"].as_f64().zip(b["value"].as_f64()).is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(1.0))
}

/// What was compared, and what differed.
#[derive(Default)]
struct Verdict {
    differences: Vec<String>,
    deviations: Vec<&'static str>,
}

impl Verdict {
    fn compare(&mut self, what: &str, input: &dyn Debug, dask: &Value, ours: Value) {
        let floats = matches!(what.split(' ').next(), Some("mean" | "var" | "std"));
        if *dask == ours || is_error(dask) && is_error(&ours) || floats && is_near(dask, &ours) {
            return;
        }
        let operation = what.split(' ').next().unwrap();
        match DEVIATIONS.iter().find(|d| d.operation == operation && (d.is_meant)(dask, &ours)) {
            Some(deviation) => self.deviations.push(deviation.operation),
            None => self.differences.push(format!("{what} of {input:?}:\n    Dask {dask}\n    ours {ours}")),
        }
    }
}

fn compare<T: swath::Data>(
    operations: &[(&str, Operation<T>)],
    inputs: &BTreeMap<&str, Vec<Vec<T>>>,
    dask: &Value,
    client: &Client,
    verdict: &mut Verdict,
) {
    for (name, partitions) in inputs {
        let answers = dask[name].as_object().unwrap();
        assert_eq!(answers.len(), operations.len(), "both know the same operations");
        for (operation, run) in operations {
            let ours = outcome(run(&Bag::from_partitions(partitions.clone()), client));
            verdict.compare(operation, name, &answers[*operation], ours);
        }
    }
}

fn sizes(bag: &Bag<i64>, client: &Client) -> Value {
    let sizes = client.compute(&bag.map_partitions(|part| [part.count()])).unwrap();
    json!({ "value": sizes })
}

fn written(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|f| (f.file_name().into_string().unwrap(), fs::read_to_string(f.path()).unwrap())).collect()
}

fn compare_files(comparison: &Comparison, client: &Client, verdict: &mut Verdict) {
    let folder = comparison.folder.path().join(client.mode().to_string());
    let text = Bag::from_partitions(
        [vec!["one", "two"], vec![], vec!["three"]].map(|p| p.iter().map(|w| w.to_string()).collect()),
    );
    let read = |files: Files| outcome(Bag::read_text(files).and_then(|bag| made(&bag, client)));
    let write = |part: &str, output: Output| {
        text.write_text(output).unwrap().compute(client).unwrap();
        json!({ "value": written(&folder.join(part)) })
    };
    let pattern = |part: &str, name: &str| Output::new(folder.join(part).join(name));
    let ours = [
        ("read_text", read(comparison.pattern())),
        ("read_text files_per_partition", read(comparison.pattern().files_per_partition(2))),
        ("read_text blocksize", read(comparison.pattern().blocksize(7))),
        ("read_text delimiter", read(comparison.pattern().delimiter(" "))),
        (
            "read_text_with_path",
            outcome(Bag::read_text_with_path(comparison.pattern()).and_then(|bag| made(&bag, client))),
        ),
        ("read_text none", read(Files::new(comparison.folder.path().join("*.not-there")))),
        ("write_text", write("a", Output::new(folder.join("a")))),
        ("write_text names", write("b", pattern("b", "*.txt").names(|i| "abc"[i..=i].to_string()))),
        ("write_text ends", write("c", pattern("c", "*.txt"))),
    ];
    let answers = comparison.dask["files"].as_object().unwrap();
    assert_eq!(answers.len(), ours.len());
    for (what, ours) in ours {
        verdict.compare(what, &"files", &answers[what], ours);
    }
}

fn is_like_dask(client: impl FnOnce() -> Client) {
    let _clean = clean();
    let comparison = &*COMPARISON;
    let (client, mut verdict) = (client(), Verdict::default());
    compare(NUMBERS, &comparison.numbers, &comparison.dask["numbers"], &client, &mut verdict);
    compare(WORDS, &comparison.words, &comparison.dask["words"], &client, &mut verdict);
    for (dask, (n, npartitions)) in comparison.dask["sequences"].as_array().unwrap().iter().zip(&comparison.sequences) {
        let ours = sizes(&Bag::from_sequence(0..*n, *npartitions), &client);
        verdict.compare("from_sequence", &(n, npartitions), dask, ours);
    }
    for (dask, (n, npartitions)) in comparison.dask["ranges"].as_array().unwrap().iter().zip(&comparison.ranges) {
        verdict.compare("range", &(n, npartitions), dask, sizes(&Bag::range(0..*n, *npartitions), &client));
    }
    compare_files(comparison, &client, &mut verdict);
    assert!(verdict.differences.is_empty(), "{}", verdict.differences.join("\n"));
    // None is left over from another version, and the page for users knows all of them.
    let page = include_str!("../../docs/DASK.md");
    for Deviation { operation, .. } in DEVIATIONS {
        assert!(verdict.deviations.contains(operation), "`{operation}` does not differ from Dask's any more");
        assert!(page.contains(&format!("`{operation}`")), "docs/DASK.md does not tell of `{operation}`");
    }
}

#[test]
fn bags_are_like_dasks_in_this_thread() {
    is_like_dask(Client::sync);
}

#[test]
fn bags_are_like_dasks_on_threads() {
    is_like_dask(|| Client::threads(3));
}

#[test]
fn bags_are_like_dasks_in_processes() {
    is_like_dask(|| processes(2, 1));
}
