//! Who left New York late? Flight records read in parallel, kept with the workers, and asked two questions.
//!
//! ```text
//! cargo run --release --example flights                                  # the data that is shipped with swath
//! cargo run --release --example flights -- --mode threads --threads 4
//! cargo run --release --example flights -- --workers 4 --memory-limit 1GB flights.csv
//! cargo run --release --example flights -- --json data/2013 data/2014
//! ```
//!
//! Takes CSV files, or directories of them, with the columns `month`, `dep_delay`, `origin` and `dest`, found by their
//! names in the header line of each file. Large files are cut into ranges of bytes, so that one file is read in parallel
//! as well; a field must therefore not contain a line break. Flights without a delay (empty or `NA`) did not leave and
//! count as rows only.
//!
//! The mode is that of `--mode`, else what the environment says (`SWATH_SCHEDULER`, or `SWATH_CLUSTER` for a running local
//! cluster), else `processes`.

#[path = "support/mod.rs"]
mod support;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use support::Look;
use swath::client::Builder;
use swath::status::Mode;
use swath::{Buffer, Client, Delayed, delayed, try_delayed};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "\
usage: flights [options] [FILE or DIRECTORY]...
  --mode sync|threads|processes  where the work is done (default: processes)
  --workers N                    worker processes (default: one for each processor)
  --threads N                    threads of each worker, or of this process in threads mode
  --memory-limit SIZE            of each worker: 2GB, 512MiB, a number of bytes, a fraction such as 0.25, or none
  --progress                     show bars on the terminal while it works
  --record FILE                  keep a log of every task: `local-cluster why FILE`
  --report FILE                  write a page that says where the time went: .html
  --graph FILE                   draw what is computed: .svg, .html or .dot
  --json                         print one JSON object instead of tables
Without a file it reads the data shipped with swath.";

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "flights: {}", explain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with a file is all the user needs to know; any other error speaks for itself.
fn explain(error: &(dyn Error + 'static)) -> String {
    let bad_input = error.downcast_ref::<swath::Error>().and_then(|e| e.task()).and_then(|t| t.downcast::<BadInput>());
    bad_input.map_or_else(|| error.to_string(), |e| e.to_string())
}

fn run(options: &Options) -> Result {
    let mut clock = Clock::start();
    let (files, shipped) = if options.paths.is_empty() {
        (find_files(&[shipped_data()?])?, true)
    } else {
        (find_files(&options.paths)?, false)
    };
    let ranges = cut(&files)?;

    let client = options.client()?;
    let _report = options.look.report(&client);
    if !options.json {
        writeln!(io::stdout(), "{client}\n{} file(s), read in {} part(s)\n", files.len(), ranges.len())?;
    }
    clock.lap("start");

    let answers = ask(&client, ranges, &options.look, &mut clock)?;
    clock.finish();

    answers.check_totals()?;
    if shipped {
        answers.check_shipped_data()?;
    }
    let report = if options.json { answers.json(&client, &clock)? } else { answers.tables(&clock) };
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

/// The job itself. Everything is described first; `persist` and `compute` make it run.
fn ask(client: &Client, ranges: Vec<Range>, look: &Look, clock: &mut Clock) -> Result<Answers> {
    // The parsed parts stay where they were read. From here on, `parts` are handles of these results.
    let parts = client.persist(&try_delayed(read).keep_error().map(ranges))?;
    let rows = parts.iter().map(|part| part.map(rows)).sum::<Delayed<u64>>().compute(client)?;
    clock.lap("read");

    // First question: one small table for each part, then one table of them all. Both are computed in one go.
    let by_origin: Vec<_> = parts.iter().map(|part| part.map(group_by_origin)).collect();
    let by_month: Vec<_> = parts.iter().map(|part| part.map(group_by_month)).collect();
    let by_origin = delayed(merge::<String>).call(by_origin);
    let by_month = delayed(merge::<u8>).call(by_month);
    look.draw(&(&by_origin, &by_month))?;
    let (by_origin, by_month) = client.compute((&by_origin, &by_month))?;
    clock.lap("first_question");

    // Second question, of the same parts: nothing is read again.
    let by_destination: Vec<_> = parts.iter().map(|part| part.map(group_by_destination)).collect();
    let by_destination = delayed(merge::<String>).call(by_destination).compute(client)?;
    clock.lap("second_question");

    Ok(Answers { rows, by_origin, by_month, by_destination })
}

// ---- The tasks ----------------------------------------------------------------------------------------------------

/// The lines of a file that begin in a range of its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Range {
    file: PathBuf,
    start: u64,
    end: u64,
}

/// The flights of one range that left, column by column.
#[derive(Clone, Serialize, Deserialize)]
struct Part {
    /// Lines, with those of flights that did not leave.
    rows: u64,
    origin: Names,
    destination: Names,
    month: Buffer<u8>,
    /// Minutes, negative when early.
    delay: Buffer<f64>,
}

/// A column of few different names, each written down once.
#[derive(Clone, Serialize, Deserialize)]
struct Names {
    names: Vec<String>,
    codes: Buffer<u32>,
}

/// Reads the lines of a range.
fn read(range: Range) -> Result<Part, BadInput> {
    let path = range.file.as_path();
    let at = |line| move |why: String| BadInput { file: path.to_path_buf(), line, why };
    let failed = |e: io::Error| at(None)(e.to_string());

    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut header = Vec::new();
    file.read_until(b'\n', &mut header).map_err(failed)?;
    let columns = Columns::find(&header).map_err(at(Some(1)))?;
    let (lines, start) = lines_in(&mut file, range.start.max(header.len() as u64), range.end).map_err(failed)?;

    let mut part = PartBuilder::default();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&*lines);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|e| at(None)(e.to_string()))? {
        part.add(&columns, &record).map_err(|why| {
            let lines_before = count_lines(path, start).unwrap_or_default();
            at(Some(lines_before + record.position().map_or(0, csv::Position::line)))(why)
        })?;
    }
    Ok(part.finish())
}

fn rows(part: Part) -> u64 {
    part.rows
}

/// How many flights, and the minutes of their delays.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Total {
    flights: u64,
    minutes: f64,
}

impl Total {
    fn add(&mut self, other: Total) {
        self.flights += other.flights;
        self.minutes += other.minutes;
    }

    fn mean(&self) -> f64 {
        self.minutes / self.flights as f64
    }
}

type Table<K> = BTreeMap<K, Total>;

fn group_by_origin(part: Part) -> Table<String> {
    group_by_name(&part.origin, &part.delay)
}

fn group_by_destination(part: Part) -> Table<String> {
    group_by_name(&part.destination, &part.delay)
}

fn group_by_name(column: &Names, delays: &[f64]) -> Table<String> {
    let mut totals = vec![Total::default(); column.names.len()];
    for (&code, &minutes) in column.codes.iter().zip(delays) {
        totals[code as usize].add(Total { flights: 1, minutes });
    }
    column.names.iter().cloned().zip(totals).collect()
}

fn group_by_month(part: Part) -> Table<u8> {
    let mut table = Table::new();
    for (&month, &minutes) in part.month.iter().zip(part.delay.iter()) {
        table.entry(month).or_default().add(Total { flights: 1, minutes });
    }
    table
}

fn merge<K: Ord>(tables: Vec<Table<K>>) -> Table<K> {
    let mut merged = Table::new();
    for (key, total) in tables.into_iter().flatten() {
        merged.entry(key).or_default().add(total);
    }
    merged
}

/// A file that cannot be used, and why: the error of the `read` task.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BadInput {
    file: PathBuf,
    line: Option<u64>,
    why: String,
}

impl Error for BadInput {}

impl Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.why)
    }
}

// ---- Reading ------------------------------------------------------------------------------------------------------

/// A file is read in parts of about this size: enough work for a task, and enough tasks for a large file.
const PART: u64 = 4 << 20;

fn cut(files: &[PathBuf]) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for file in files {
        let size = fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
        let parts = size.div_ceil(PART).max(1);
        ranges.extend((0..parts).map(|i| Range {
            file: file.clone(),
            start: size * i / parts,
            end: size * (i + 1) / parts,
        }));
    }
    Ok(ranges)
}

/// The whole lines that begin in a range of bytes, and where the first one begins.
fn lines_in(file: &mut BufReader<File>, start: u64, end: u64) -> io::Result<(Vec<u8>, u64)> {
    // A line begins where the one before it ends, so look from the byte before on. Neighbours do the same, and each
    // line is read exactly once.
    file.seek(SeekFrom::Start(start - 1))?;
    let first = start - 1 + file.read_until(b'\n', &mut Vec::new())? as u64;
    let mut lines = Vec::new();
    if first < end {
        lines.reserve((end - first) as usize + 256);
        file.by_ref().take(end - first).read_to_end(&mut lines)?;
        if lines.last() != Some(&b'\n') {
            file.read_until(b'\n', &mut lines)?;
        }
    }
    Ok((lines, first))
}

/// The number of lines that end in the first bytes of a file.
fn count_lines(file: &Path, bytes: u64) -> io::Result<u64> {
    let mut start = BufReader::new(File::open(file)?.take(bytes));
    let mut count = 0;
    while start.skip_until(b'\n')? > 0 {
        count += 1;
    }
    Ok(count)
}

/// Where the columns are.
struct Columns {
    month: usize,
    delay: usize,
    origin: usize,
    destination: usize,
}

impl Columns {
    fn find(header: &[u8]) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(header);
        let mut names = csv::StringRecord::new();
        reader.read_record(&mut names).map_err(|e| e.to_string())?;
        let place = |name: &str| {
            names.iter().position(|n| n.trim() == name).ok_or_else(|| {
                let found = names.iter().collect::<Vec<_>>().join(", ");
                format!("no column `{name}`; the columns are: {found}")
            })
        };
        Ok(Self {
            month: place("month")?,
            delay: place("dep_delay")?,
            origin: place("origin")?,
            destination: place("dest")?,
        })
    }
}

#[derive(Default)]
struct PartBuilder {
    rows: u64,
    origin: NamesBuilder,
    destination: NamesBuilder,
    month: Vec<u8>,
    delay: Vec<f64>,
}

impl PartBuilder {
    fn add(&mut self, columns: &Columns, record: &csv::ByteRecord) -> Result<(), String> {
        self.rows += 1;
        let Some(delay) = parse_delay(text(record, columns.delay, "dep_delay")?)? else { return Ok(()) };
        let month = text(record, columns.month, "month")?;
        let month = month.parse().ok().filter(|m| (1..=12).contains(m));
        let month = month.ok_or_else(|| {
            let field = String::from_utf8_lossy(&record[columns.month]);
            format!("month is `{field}`, not a number from 1 to 12")
        })?;
        self.origin.add(text(record, columns.origin, "origin")?);
        self.destination.add(text(record, columns.destination, "dest")?);
        self.month.push(month);
        self.delay.push(delay);
        Ok(())
    }

    fn finish(self) -> Part {
        Part {
            rows: self.rows,
            origin: self.origin.finish(),
            destination: self.destination.finish(),
            month: self.month.into(),
            delay: self.delay.into(),
        }
    }
}

fn text<'r>(record: &'r csv::ByteRecord, place: usize, column: &str) -> Result<&'r str, String> {
    let field = record.get(place).ok_or_else(|| format!("the line ends before the column `{column}`"))?;
    std::str::from_utf8(field).map(str::trim).map_err(|_| format!("{column} is not UTF-8 text"))
}

fn parse_delay(field: &str) -> Result<Option<f64>, String> {
    if matches!(field, "" | "NA") {
        return Ok(None);
    }
    match field.parse::<f64>() {
        Ok(minutes) if minutes.is_finite() => Ok(Some(minutes)),
        _ => Err(format!("dep_delay is `{field}`, not a number of minutes")),
    }
}

#[derive(Default)]
struct NamesBuilder {
    known: HashMap<String, u32>,
    names: Vec<String>,
    codes: Vec<u32>,
}

impl NamesBuilder {
    fn add(&mut self, name: &str) {
        let code = match self.known.get(name) {
            Some(&code) => code,
            None => {
                let code = self.names.len() as u32;
                self.known.insert(name.to_string(), code);
                self.names.push(name.to_string());
                code
            }
        };
        self.codes.push(code);
    }

    fn finish(self) -> Names {
        Names { names: self.names, codes: self.codes.into() }
    }
}

/// The files themselves, and the CSV files of directories, in the order of their names. Their paths are made absolute:
/// the workers of a local cluster may live in another directory.
fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        let path = std::path::absolute(path).map_err(failed)?;
        if !fs::metadata(&path).map_err(failed)?.is_dir() {
            files.push(path);
            continue;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(format!("{}: no .csv file in this directory", path.display()).into());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn shipped_data() -> Result<PathBuf> {
    let places = [Path::new(env!("CARGO_MANIFEST_DIR")), Path::new(".")];
    places
        .map(|place| place.join("examples/data/flights"))
        .into_iter()
        .find(|place| place.is_dir())
        .ok_or_else(|| "the shipped data, examples/data/flights, is not here: give files or directories".into())
}

// ---- Options ------------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Options {
    mode: Option<Mode>,
    workers: Option<usize>,
    threads: Option<usize>,
    memory_limit: Option<String>,
    json: bool,
    look: Look,
    paths: Vec<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let (look, args) = Look::from_args()?;
        let mut options = Self { look, ..Self::default() };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("mode") => options.mode = Some(parser.value()?.parse()?),
                Long("workers") => options.workers = Some(parser.value()?.parse()?),
                Long("threads") => options.threads = Some(parser.value()?.parse()?),
                Long("memory-limit") => options.memory_limit = Some(parser.value()?.string()?),
                Long("json") => options.json = true,
                Value(path) => options.paths.push(path.into()),
                Short('h') | Long("help") => {
                    writeln!(io::stdout(), "{USAGE}")?;
                    std::process::exit(0);
                }
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        Ok(options)
    }

    fn client(&self) -> Result<Client> {
        let mut builder = match self.mode {
            Some(mode) => Client::builder().mode(mode),
            None => Builder::from_env()?,
        };
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(limit) = &self.memory_limit {
            builder = builder.memory_limit(limit.as_str());
        }
        Ok(self.look.client(builder)?)
    }
}

// ---- Answers ------------------------------------------------------------------------------------------------------

struct Answers {
    rows: u64,
    by_origin: Table<String>,
    by_month: Table<u8>,
    by_destination: Table<String>,
}

/// A mean of fewer flights says little about a destination.
const ENOUGH_FLIGHTS: u64 = 1000;

impl Answers {
    /// However the flights are grouped, they are the same flights.
    fn check_totals(&self) -> Result {
        fn total<K>(table: &Table<K>) -> Total {
            let mut sum = Total::default();
            table.values().for_each(|t| sum.add(*t));
            sum
        }
        let wanted = total(&self.by_origin);
        for (name, got) in [("month", total(&self.by_month)), ("destination", total(&self.by_destination))] {
            let differs = (got.minutes - wanted.minutes).abs() > 1e-9 * wanted.minutes.abs().max(1.0);
            if got.flights != wanted.flights || differs {
                return Err(format!("wrong result: by {name} {got:?} in all, by origin {wanted:?}").into());
            }
        }
        Ok(())
    }

    /// The answers for the shipped data are known: see `examples/data/README.md`.
    fn check_shipped_data(&self) -> Result {
        const ROWS: u64 = 336_776;
        const MINUTES: [(&str, f64, u64); 3] =
            [("EWR", 1_776_635.0, 117_596), ("JFK", 1_325_264.0, 109_416), ("LGA", 1_050_301.0, 101_509)];
        const MONTHS: [f64; 12] = [
            10.036665, 10.816843, 13.227076, 13.938038, 12.986859, 20.846332, 21.727787, 12.611040, 6.722476, 6.243988,
            5.435362, 16.576688,
        ];
        if self.rows != ROWS {
            return Err(format!("wrong result: {} rows, wanted {ROWS}", self.rows).into());
        }
        let got: Vec<_> = self.by_origin.iter().map(|(name, t)| (name.as_str(), t.minutes, t.flights)).collect();
        if got != MINUTES {
            return Err(format!("wrong result: by origin {got:?}, wanted {MINUTES:?}").into());
        }
        let got: Vec<_> = self.by_month.values().map(Total::mean).collect();
        if got.len() != MONTHS.len() || got.iter().zip(MONTHS).any(|(got, wanted)| (got - wanted).abs() > 1e-6) {
            return Err(format!("wrong result: by month {got:?}, wanted {MONTHS:?}").into());
        }
        Ok(())
    }

    fn tables(&self, clock: &Clock) -> String {
        let mut worst: Vec<_> = self.by_destination.iter().filter(|(_, t)| t.flights >= ENOUGH_FLIGHTS).collect();
        worst.sort_by(|a, b| b.1.mean().total_cmp(&a.1.mean()).then(a.0.cmp(b.0)));
        worst.truncate(10);
        let left: u64 = self.by_origin.values().map(|t| t.flights).sum();
        let seconds: Vec<_> = clock.laps.iter().map(|(name, s)| format!("{name} {s:.3} s")).collect();
        format!(
            "{} rows, {left} flights left\n\n{}\n{}\n{}\n{}",
            self.rows,
            table("Mean departure delay by origin", &self.by_origin),
            table("By month", &self.by_month),
            table(&format!("The ten worst destinations with {ENOUGH_FLIGHTS} flights or more"), worst),
            seconds.join(", ").replace('_', " "),
        )
    }

    fn json(&self, client: &Client, clock: &Clock) -> Result<String> {
        #[derive(Serialize)]
        struct Object<'a> {
            rows: u64,
            mode: String,
            mean_dep_delay_by_origin: BTreeMap<&'a str, f64>,
            mean_dep_delay_by_month: BTreeMap<u8, f64>,
            seconds: BTreeMap<&'a str, f64>,
        }
        Ok(serde_json::to_string(&Object {
            rows: self.rows,
            mode: client.mode().to_string(),
            mean_dep_delay_by_origin: self.by_origin.iter().map(|(k, t)| (k.as_str(), t.mean())).collect(),
            mean_dep_delay_by_month: self.by_month.iter().map(|(k, t)| (*k, t.mean())).collect(),
            seconds: clock.laps.iter().copied().collect(),
        })?)
    }
}

fn table<'a, K: Display + 'a>(title: &str, rows: impl IntoIterator<Item = (&'a K, &'a Total)>) -> String {
    let mut text = format!("{title}\n{:>8} {:>10} {:>10}\n", "", "flights", "minutes");
    for (key, total) in rows {
        text += &format!("{key:>8} {:>10} {:>10.2}\n", total.flights, total.mean());
    }
    text
}

/// Seconds by phase.
struct Clock {
    started: Instant,
    last: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, laps: Vec::new() }
    }

    fn lap(&mut self, name: &'static str) {
        self.laps.push((name, self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }

    fn finish(&mut self) {
        self.laps.push(("total", self.started.elapsed().as_secs_f64()));
    }
}
