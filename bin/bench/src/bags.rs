//! Bags: words of text counted, JSON lines filtered and folded or grouped, and more data grouped than memory holds.
//!
//! The data are those of a folder (`--data`, with `text/*.txt` and `json/*.jsonl` and the answers in `expected.json` beside
//! them), or else are made first, of the same form and size.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::systems;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use swath::bag::{Counter, Elements};
use swath::files::{FileError, Lines};
use swath::{Bag, Client};

const TIME: Metric = Metric::new("time", "s");
const FILES: u64 = 10;
/// What groups are made of where they do not fit into memory, in bytes and their number per partition.
const ROW: usize = 1000;

pub(crate) fn run(report: &mut Report, options: &Options) {
    let made = match &options.data {
        Some(_) => None,
        None => Some(make(options.quick_or(1000, 1))),
    };
    let made = match made.transpose() {
        Ok(made) => made,
        Err(error) => return report.fail("data", error.as_ref()),
    };
    let data = options.data.clone().or_else(|| Some(made.as_ref()?.path().to_path_buf())).unwrap_or_default();
    report.for_each(|report, system| {
        let expected = Expected::read(&data)?;
        let workers = options.width();
        let measure = |part: &str, run: &dyn Fn() -> Outcome<Answer>, right: &Answer| {
            if options.wants_part(part) {
                let took = seconds(options.repeat, run, |answer| require(answer == *right, part))?;
                report.emit_runs(system, &json!({"part": part, "workers": workers}), TIME, &took);
            }
            Outcome::Ok(())
        };
        let (top, amounts, counts) = expected.answers();
        if system == "floor-rayon" {
            measure("words", &|| rayon_words(&data, workers), &top)?;
            return measure("fold", &|| rayon_fold(&data, workers), &amounts);
        }
        let client = systems::open(system, workers)?;
        let text = data.join("text/*.txt").display().to_string();
        let lines = data.join("json/*.jsonl").display().to_string();
        measure("words", &|| words(&client, &text), &top)?;
        measure("words_borrowed", &|| words_borrowed(&client, &text), &top)?;
        measure("frequencies", &|| frequencies(&client, &text), &top)?;
        measure("fold", &|| fold(&client, &lines), &amounts)?;
        measure("groupby", &|| groupby(&client, &lines), &counts)?;
        drop(client);
        if system == "swath-processes" && options.wants_part("groupby_large") {
            large(report, options)?;
        }
        Ok(())
    });
}

/// Pairs of names and numbers, in the order of the answer.
type Answer = Vec<(String, u64)>;

fn count_words(mut words: Counter<String>, line: String) -> Counter<String> {
    words.extend(line.split_whitespace());
    words
}

fn words(client: &Client, files: &str) -> Outcome<Answer> {
    let top = |words: Counter<String>| words.most_common(10);
    let words = Bag::read_text(files)?.fold(Counter::new(), count_words, Counter::merge);
    Ok(numbers(words.map(top).compute(client)?))
}

/// Without a string for each line.
fn words_borrowed(client: &Client, files: &str) -> Outcome<Answer> {
    fn count(lines: &mut Lines) -> Result<[Counter<String>; 1], FileError> {
        let mut words = Counter::new();
        lines.for_each(|line| words.extend(line.split_whitespace()))?;
        Ok([words])
    }
    let top = |words: Option<Counter<String>>| words.unwrap_or_default().most_common(10);
    Ok(numbers(Bag::read_with(files, count)?.reduce(Counter::merge).map(top).compute(client)?))
}

fn frequencies(client: &Client, files: &str) -> Outcome<Answer> {
    let words = Bag::read_text(files)?.flat_map(|l| l.split_whitespace().map(String::from).collect::<Vec<_>>());
    Ok(numbers(words.frequencies().topk_by_key(10, |(_, n)| *n).compute(client)?))
}

fn numbers(counts: Vec<(String, usize)>) -> Answer {
    counts.into_iter().map(|(name, n)| (name, n as u64)).collect()
}

#[derive(Clone, Serialize, Deserialize)]
struct Address {
    city: String,
    zip: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Person {
    id: u64,
    name: String,
    age: u32,
    occupation: String,
    address: Address,
    amount: u64,
}

/// What a fold needs of a person.
#[derive(Clone, Serialize, Deserialize)]
struct Part {
    age: u32,
    occupation: String,
    amount: u64,
}

fn fold(client: &Client, files: &str) -> Outcome<Answer> {
    let amounts = Bag::<Part>::read_json(files)?.filter(|p| p.age >= 30).foldby_ref(
        |p| p.occupation.as_str(),
        0,
        |sum, p| sum + p.amount,
        |a, b| a + b,
    );
    let amounts: BTreeMap<String, u64> = amounts.compute(client)?.into_iter().collect();
    Ok(amounts.into_iter().collect())
}

fn groupby(client: &Client, files: &str) -> Outcome<Answer> {
    let groups = Bag::<Person>::read_json(files)?.filter(|p| p.age >= 30).groupby(|p| p.occupation.clone(), None);
    let counts = groups.starmap(|occupation, people| (occupation, people.len() as u64));
    let counts: BTreeMap<String, u64> = counts.compute(client)?.into_iter().collect();
    Ok(counts.into_iter().collect())
}

/// What a row of too much data is: a key and filling.
type Row = (u64, Vec<u8>);

fn rows((from, to): (u64, u64)) -> impl Iterator<Item = Row> {
    (from..to).map(|i| (i % 5000, vec![i as u8; ROW]))
}

/// Groups four times as much as the workers may have in memory, and tells how much they had.
fn large(report: &Report, options: &Options) -> Outcome {
    let (workers, bytes) = (options.width(), options.quick_or(8 << 20, 2_u64 << 30));
    let limit = options.quick_or(256_u64 << 20, 512 << 20);
    let n = bytes / ROW as u64;
    let client = Client::local(workers, 1, limit)?;
    client.wait_for_workers(workers, Duration::from_secs(30))?;
    let run = || {
        let ends = (0..64).map(|i| (n * i / 64, n * (i + 1) / 64));
        let sizes =
            |groups: Elements<(u64, Vec<Row>)>| [groups.map(|(_, rows)| (1_u64, rows.len() as u64)).fold((0, 0), add)];
        let sizes = Bag::generate(rows, ends).groupby(|row| row.0, None).map_partitions(sizes);
        Ok(sizes.reduce(add).compute(&client)?)
    };
    let right = |sizes| require(sizes == Some((n.min(5000), n)) && client.deaths()?.is_empty(), "groups and rows");
    let took = seconds(1, run, right)?;
    let params = json!({"part": "groupby_large", "workers": workers, "bytes": bytes, "limit": limit});
    report.emit_runs("swath-processes", &params, TIME, &took);
    Ok(())
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

/// The text of each file, worked on by a spawn of its own; the results as they come.
fn rayon_files<R: Send>(data: &Path, kind: &str, workers: usize, run: impl Fn(&str) -> R + Sync) -> Outcome<Vec<R>> {
    let pool = rayon_core::ThreadPoolBuilder::new().num_threads(workers).build()?;
    let results = Mutex::new(Vec::new());
    let files = files(&data.join(kind))?;
    pool.scope(|scope| {
        for file in &files {
            let (results, run) = (&results, &run);
            scope.spawn(move |_| {
                let result = fs::read_to_string(file).map(|text| run(&text));
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(results.into_iter().collect::<Result<_, _>>()?)
}

fn rayon_words(data: &Path, workers: usize) -> Outcome<Answer> {
    let counted = rayon_files(data, "text", workers, |text| {
        let mut counts = FxHashMap::<&str, u64>::default();
        text.lines().for_each(|line| line.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1));
        counts.into_iter().map(|(word, n)| (word.to_string(), n)).collect::<Vec<_>>()
    })?;
    let mut counts = FxHashMap::<String, u64>::default();
    counted.into_iter().flatten().for_each(|(word, n)| *counts.entry(word).or_default() += n);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts.truncate(10);
    Ok(counts)
}

fn rayon_fold(data: &Path, workers: usize) -> Outcome<Answer> {
    #[derive(Deserialize)]
    struct Part<'a> {
        age: u32,
        occupation: &'a str,
        amount: u64,
    }
    let folded = rayon_files(data, "json", workers, |text| {
        let mut amounts = FxHashMap::<String, u64>::default();
        for line in text.lines() {
            let part: Part<'_> = serde_json::from_str(line)?;
            if part.age >= 30 {
                match amounts.get_mut(part.occupation) {
                    Some(sum) => *sum += part.amount,
                    None => drop(amounts.insert(part.occupation.to_string(), part.amount)),
                }
            }
        }
        Ok::<_, serde_json::Error>(amounts)
    })?;
    let mut amounts = BTreeMap::<String, u64>::new();
    for part in folded {
        part?.into_iter().for_each(|(occupation, sum)| *amounts.entry(occupation).or_default() += sum);
    }
    Ok(amounts.into_iter().collect())
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_none_or(|name| name != "expected.json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The answers, as they lie beside the data.
struct Expected {
    text: Value,
    json: Value,
}

impl Expected {
    fn read(data: &Path) -> Outcome<Self> {
        let read = |kind: &str| -> Outcome<Value> {
            let path = data.join(kind).join("expected.json");
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok(serde_json::from_str(&text)?)
        };
        Ok(Self { text: read("text")?, json: read("json")? })
    }

    fn answers(&self) -> (Answer, Answer, Answer) {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let table = |name: &str| -> Answer {
            let table: Option<BTreeMap<_, _>> = self.json[name].as_object().map(|t| t.iter().collect());
            table.into_iter().flatten().map(|(name, n)| (name.clone(), number(n))).collect()
        };
        let top = self.text["top10"].as_array().into_iter().flatten();
        let top = top.map(|pair| (pair[0].as_str().unwrap_or_default().to_string(), number(&pair[1]))).collect();
        (top, table("amount_by_occupation"), table("count_by_occupation"))
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// A number below `n`, small ones far more often: about as words are in a language.
    fn rank(&mut self, n: u64) -> u64 {
        let u = self.roll(1 << 53) as f64 / (1_u64 << 53) as f64;
        (((n + 1) as f64).powf(u) as u64 - 1).min(n - 1)
    }
}

/// Makes data of the usual form; a part of `1 / less` of the usual size.
fn make(less: u64) -> Outcome<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let mut dice = Dice(88_172_645_463_325_252);
    let letters = |dice: &mut Dice, n| (0..n).map(|_| char::from(b'a' + dice.roll(26) as u8)).collect::<String>();
    let words: Vec<String> = (0..50_000_u64)
        .map(|i| {
            let n = 2 + dice.roll(6);
            format!("{}{}", letters(&mut dice, n), letters(&mut Dice(i + 1), 3))
        })
        .collect();
    let text = folder.path().join("text");
    fs::create_dir(&text)?;
    let mut counts = FxHashMap::<&str, u64>::default();
    for file in 0..FILES {
        let mut out = BufWriter::new(File::create(text.join(format!("part{file}.txt")))?);
        for i in 1..=(3_000_000 / less) {
            let word = &words[dice.rank(50_000) as usize];
            *counts.entry(word).or_default() += 1;
            write!(out, "{word}{}", if i % 12 == 0 { '\n' } else { ' ' })?;
        }
        out.flush()?;
    }
    let mut top: Vec<_> = counts.into_iter().collect();
    top.sort_unstable_by_key(|(_, n)| std::cmp::Reverse(*n));
    top.truncate(10);
    fs::write(text.join("expected.json"), json!({"top10": top}).to_string())?;

    let records = folder.path().join("json");
    fs::create_dir(&records)?;
    let (mut amounts, mut people) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for file in 0..FILES {
        let mut out = BufWriter::new(File::create(records.join(format!("part{file}.jsonl")))?);
        for i in 0..(100_000 / less) {
            let person = Person {
                id: file * 100_000 + i,
                name: format!("{} {}", words[dice.roll(1000) as usize], words[dice.roll(1000) as usize]),
                age: 18 + dice.roll(72) as u32,
                occupation: format!("occupation {:02}", dice.roll(50)),
                address: Address {
                    city: words[dice.roll(300) as usize].clone(),
                    zip: format!("{:05}", dice.roll(100_000)),
                },
                amount: dice.roll(10_000),
            };
            if person.age >= 30 {
                *amounts.entry(person.occupation.clone()).or_default() += person.amount;
                *people.entry(person.occupation.clone()).or_default() += 1;
            }
            serde_json::to_writer(&mut out, &person)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    let expected = json!({"amount_by_occupation": amounts, "count_by_occupation": people});
    fs::write(records.join("expected.json"), expected.to_string())?;
    Ok(folder)
}
