//! What the command is told.

use crate::failure::Failure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use swath::Client;
use swath::client::Builder;
use swath::error::OutputStream;
use swath::local::describe_sizes;
use swath::local::{self, DEFAULT_NAME};
use swath::memory::MemoryLimit;

static VERSION: LazyLock<String> = LazyLock::new(local::version);

const EXAMPLES: &str = "\
Examples:
  local-cluster start --workers 4 --threads 2 --memory-limit 2GB
  local-cluster run -- ./program
  local-cluster stop --drain --timeout 60

A program connects with Client::connect(\"NAME\"), or through the variable SWATH_CLUSTER=NAME where it uses
Client::from_env(). Workers run the program's own executable, in the directory and with the environment of `start`;
they are started when the first program connects, and each build of a program has workers of its own.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such cluster, 4 timed out; `run` gives its program's,
128 + n after signal n.";

/// Worker processes that outlive the programs that use them.
#[derive(Debug, Parser)]
#[command(name = "local-cluster", version = VERSION.as_str(), after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Options {
    /// The cluster's name, or the path of its socket
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    pub(crate) name: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster in the background
    Start {
        /// Stay in this terminal and log to it
        #[arg(long)]
        foreground: bool,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        start: StartOptions,
    },
    /// Show a cluster, its programs and workers
    Status {
        /// Show it again every so many seconds
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
        watch: Option<Duration>,
        #[command(flatten)]
        form: Form,
    },
    /// Stop a cluster and its workers
    Stop {
        /// Let nobody in, wait for the graphs under way, then stop
        #[arg(long)]
        drain: bool,
        /// How long graphs may take; what is not done then is cut off, with exit code 4
        #[arg(long, value_name = "SECONDS", value_parser = duration, requires = "drain")]
        timeout: Option<Duration>,
    },
    /// Replace all workers by new ones at once, or one in order
    Restart {
        /// Only this worker: what it runs is finished, and its results move
        #[arg(conflicts_with = "rolling")]
        worker: Option<String>,
        /// All of them in order, one after the other
        #[arg(long)]
        rolling: bool,
        /// How long the tasks of a worker may take before it is ended and they run again
        #[arg(long, value_name = "SECONDS", value_parser = duration, default_value = "60")]
        timeout: Duration,
    },
    /// Retire workers: what they run is finished, their results move, and there are so many fewer
    Retire {
        /// As `status` shows them: `worker-1`, or `PROGRAM/worker-1` where several programs have one
        #[arg(required = true, value_name = "WORKER")]
        workers: Vec<String>,
        /// How long to wait until they are gone
        #[arg(long, value_name = "SECONDS", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Have N workers for each program from now on
    Scale {
        /// 1 to 1024
        #[arg(value_name = "N", value_parser = at_least_one)]
        workers: usize,
    },
    /// Wait until a program has workers that take tasks
    Wait {
        /// How many
        #[arg(long, value_name = "N", value_parser = at_least_one)]
        workers: usize,
        /// How long to wait
        #[arg(long, value_name = "SECONDS", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Show what the cluster and its workers wrote last
    Logs(LogOptions),
    /// Run a program with SWATH_CLUSTER set to the cluster's name; gives its exit code
    Run {
        /// Start a cluster for the program, and stop it afterwards
        #[arg(long)]
        start: bool,
        #[command(flatten)]
        options: StartOptions,
        /// The program, and what it is told
        #[arg(last = true, required = true, value_name = "PROGRAM")]
        program: Vec<OsString>,
    },
    /// Say what has happened: runs, groups, names by cost, and whether anything is missing
    Events {
        /// A log that Client::save_events or a recording has written, instead of a running cluster
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        form: Form,
    },
    /// Say why a task is where it is, and what became of it: one of any program of the cluster, or of a saved log
    Explain {
        /// Its key, or the beginning of that
        #[arg(value_name = "KEY")]
        key: String,
        /// A log that Client::save_events or a recording has written, in place of the cluster
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        form: Form,
    },
    /// Say why a run took as long as it did: what its threads did, and what time was lost to
    Why {
        /// Only this graph
        #[arg(long, value_name = "NUMBER", conflicts_with = "label")]
        graph: Option<u32>,
        /// Only the graphs of this label; those that a cluster records have the name of their program
        #[arg(long, value_name = "LABEL")]
        label: Option<String>,
        #[command(flatten)]
        of: GraphOf,
        #[command(flatten)]
        form: Form,
    },
    /// List the workers that died, with what is known of each death
    Deaths {
        /// A log that Client::save_events or a recording has written, instead of a running cluster
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        form: Form,
    },
    /// Draw the tasks that have run, and what they used as far as that is recorded
    Graph {
        /// Where to: a file that ends in .svg, .html or .dot; lines of text are printed otherwise
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        of: GraphOf,
    },
    /// Write Chrome trace events, which ui.perfetto.dev shows
    Trace {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// A log that Client::save_events or a recording has written, instead of a running cluster
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Write all that a report of a problem needs: the log, the state, versions and the machine, but no values, no
    /// environment and no command lines
    Dump {
        /// Where to: a file of JSON, beside which the log is
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Write a report: one HTML file that a browser opens without a network
    Report {
        /// Where to; the name ends in .html
        #[arg(short, long, value_name = "FILE.html")]
        output: PathBuf,
        /// A log that Client::save_events or a recording has written, instead of a running cluster
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List named worker sizes, as large as they are on this machine or in its control group
    Sizes(Form),
    /// Print completions for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Of what is to be told.
#[derive(Debug, Args)]
pub(crate) struct GraphOf {
    /// The number of a graph (default: all); then a log that Client::save_events or a recording has written, instead of a
    /// running cluster
    #[arg(value_name = "GRAPH|FILE", num_args = 0..=2)]
    words: Vec<PathBuf>,
}

impl GraphOf {
    /// The number, and the file.
    pub(crate) fn parts(&self) -> Result<(Option<u32>, Option<&Path>), Failure> {
        let number = |word: &PathBuf| word.to_str()?.parse().ok();
        match &self.words[..] {
            [] => Ok((None, None)),
            [one] => Ok(number(one).map_or((None, Some(one.as_path())), |graph| (Some(graph), None))),
            [graph, file, ..] => match number(graph) {
                Some(graph) => Ok((Some(graph), Some(file))),
                None => Err(Failure::Usage(format!("{} is not the number of a graph", graph.display()))),
            },
        }
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The first argument of a process that is the cluster, as `start` runs it. No command: no user is to give it.
pub(crate) const SERVE: &str = "__serve";

/// What such a process is told.
#[derive(Debug, Parser)]
pub(crate) struct Served {
    #[arg(long)]
    pub(crate) name: String,
    /// It ends with the process that has started it.
    #[arg(long)]
    pub(crate) for_run: bool,
    #[command(flatten)]
    pub(crate) start: StartOptions,
}

impl Served {
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let first = [OsString::from(SERVE), format!("--name={}", self.name).into()];
        let for_run = self.for_run.then(|| OsString::from("--for-run"));
        first.into_iter().chain(for_run).chain(self.start.arguments()).collect()
    }
}

/// What a cluster is started with.
#[derive(Clone, Debug, Default, Args, PartialEq)]
#[command(next_help_heading = "Options of the cluster")]
pub(crate) struct StartOptions {
    /// Worker processes for each program (default: one for each core)
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Executor threads of each worker (default: 1)
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Memory of each worker, as 2GB, 512MiB or 25% (default: no limit)
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    memory_limit: Option<String>,
    /// Memory of all workers of all programs together; needs a limit of each (default: no limit)
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    total_memory_limit: Option<String>,
    /// Shared memory of all values together (default: half of the available memory)
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    shared_memory_limit: Option<String>,
    /// Record all that programs do in a file in this directory
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// How large that file may become; then runs are summed up (default: 1GiB)
    #[arg(long, value_name = "SIZE", value_parser = limit, requires = "record")]
    record_limit: Option<String>,
    /// Where results go that do not fit into memory (default: /var/tmp)
    #[arg(long, value_name = "PATH")]
    spill_directory: Option<PathBuf>,
    /// How much of them may go there (default: what there is room for)
    #[arg(long, value_name = "SIZE", value_parser = limit)]
    spill_limit: Option<String>,
    /// A named size for what is not given: workers, threads, memory limit
    #[arg(long, value_name = "NAME", value_parser = size)]
    size: Option<String>,
    /// A tag of worker INDEX (from 0), for tasks that ask for it; may be repeated
    #[arg(long, value_name = "INDEX=NAME", value_parser = tag)]
    tag: Vec<(usize, String)>,
    /// How much worker INDEX (from 0) has of a resource, for tasks that take of it; may be repeated
    #[arg(long, value_name = "INDEX=NAME:AMOUNT", value_parser = resource)]
    resource: Vec<(usize, String, f64)>,
    /// A variable for the workers, beside those of `start`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
}

impl StartOptions {
    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Client::builder();
        if let Some(n) = self.workers {
            builder = builder.workers(n);
        }
        if let Some(n) = self.threads {
            builder = builder.threads(n);
        }
        if let Some(limit) = &self.memory_limit {
            builder = builder.memory_limit(limit.as_str());
        }
        if let Some(limit) = &self.total_memory_limit {
            builder = builder.total_memory_limit(limit.as_str());
        }
        if let Some(limit) = &self.shared_memory_limit {
            builder = builder.shared_memory_limit(limit.as_str());
        }
        if let Some(path) = &self.record {
            builder = builder.record(path);
        }
        if let Some(limit) = &self.record_limit {
            builder = builder.record_limit(limit.as_str());
        }
        if let Some(path) = &self.spill_directory {
            builder = builder.spill_directory(path);
        }
        if let Some(limit) = &self.spill_limit {
            builder = builder.spill_limit(limit.as_str());
        }
        if let Some(name) = &self.size {
            builder = builder.size(name);
        }
        let builder = self.tag.iter().fold(builder, |builder, (index, tag)| builder.worker_tags(*index, [tag]));
        let builder = self
            .resource
            .iter()
            .fold(builder, |builder, (index, name, amount)| builder.worker_resources(*index, [(name, *amount)]));
        self.env.iter().fold(builder, |builder, (name, value)| builder.worker_env(name, value))
    }

    /// The same as it was told.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let number = |n: usize| OsString::from(n.to_string());
        let one = [
            ("--workers", self.workers.map(number)),
            ("--threads", self.threads.map(number)),
            ("--memory-limit", self.memory_limit.clone().map(OsString::from)),
            ("--total-memory-limit", self.total_memory_limit.clone().map(OsString::from)),
            ("--shared-memory-limit", self.shared_memory_limit.clone().map(OsString::from)),
            ("--record", self.record.clone().map(OsString::from)),
            ("--record-limit", self.record_limit.clone().map(OsString::from)),
            ("--spill-directory", self.spill_directory.clone().map(OsString::from)),
            ("--spill-limit", self.spill_limit.clone().map(OsString::from)),
            ("--size", self.size.clone().map(OsString::from)),
        ];
        let one = one.into_iter().filter_map(|(option, value)| Some((option, value?)));
        let tags = self.tag.iter().map(|(index, tag)| ("--tag", OsString::from(format!("{index}={tag}"))));
        let resources = self.resource.iter();
        let resources =
            resources.map(|(index, name, amount)| ("--resource", OsString::from(format!("{index}={name}:{amount}"))));
        let variables = self.env.iter().map(|(name, value)| ("--env", OsString::from(format!("{name}={value}"))));
        let all = one.chain(tags).chain(resources).chain(variables);
        // In one word, so that a value may begin with a dash.
        all.map(|(option, value)| [OsString::from(option), "=".into(), value].into_iter().collect()).collect()
    }
}

/// What of the logs is to be shown.
#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Go on with what is written from now on, also by workers that replace others
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only this worker's, named as `worker-1` or `PROGRAM/worker-1`
    #[arg(long)]
    pub(crate) worker: Option<String>,
    /// Only what this task may have written, by its key or the beginning of it
    #[arg(long, value_name = "KEY")]
    pub(crate) task: Option<String>,
    /// Only what has been written since: a time like 2026-01-31T12:00:00Z, or how long ago, as 90 (seconds) or 10m
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<u64>,
    /// Only what went to this stream
    #[arg(long)]
    pub(crate) stream: Option<Stream>,
    #[command(flatten)]
    pub(crate) form: Form,
    /// Those in a log that Client::save_events or a recording has written, instead of a running cluster's
    #[arg(value_name = "FILE", conflicts_with = "follow")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Whether a line of a saved log went there: log records go to standard error.
    pub(crate) fn is_named(self, level: &str) -> bool {
        (level == "stdout") == (self == Self::Stdout)
    }

    pub(crate) fn is(self, stream: OutputStream) -> bool {
        matches!((self, stream), (Self::Stdout, OutputStream::Stdout) | (Self::Stderr, OutputStream::Stderr))
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there must be at least one".to_string()),
        Ok(n) => Ok(n),
        Err(_) => Err("it is not a whole number".to_string()),
    }
}

fn limit(text: &str) -> Result<String, String> {
    let limit: Result<MemoryLimit, _> = text.parse();
    limit.and_then(|limit| limit.bytes()).map(|_| text.to_string()).map_err(|e| e.to_string())
}

fn size(name: &str) -> Result<String, String> {
    let sizes = describe_sizes().map_err(|e| e.to_string())?;
    match sizes.iter().any(|size| size.name == name) {
        true => Ok(name.to_string()),
        false => {
            let names: Vec<_> = sizes.iter().map(|size| size.name.as_str()).collect();
            Err(format!("there is no such size; it is one of {}", names.join(", ")))
        }
    }
}

fn tag(text: &str) -> Result<(usize, String), String> {
    let parts = text.split_once('=').and_then(|(index, tag)| Some((index.parse().ok()?, tag.to_string())));
    let parts = parts.filter(|(_, tag)| !tag.is_empty());
    parts.ok_or_else(|| "say which worker and what it has, as 0=gpu".to_string())
}

fn resource(text: &str) -> Result<(usize, String, f64), String> {
    let parts = || {
        let (index, resource) = text.split_once('=')?;
        let (name, amount) = resource.rsplit_once(':')?;
        Some((index.parse().ok()?, name.to_string(), amount.parse().ok()?))
    };
    let sensible = |(_, name, amount): &(usize, String, f64)| !name.is_empty() && amount.is_finite() && *amount >= 0.0;
    parts().filter(sensible).ok_or_else(|| {
        "say which worker, what it has and how much of that, as 0=gpu:2; the amount is a number, 0 or more".to_string()
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| "say which variable and its value".to_string())?;
    Ok((parts.0.to_string(), parts.1.to_string()))
}

/// Seconds, or a duration with units.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let with_units = || Duration::try_from(text.parse::<SignedDuration>().ok()?).ok();
    seconds.or_else(with_units).ok_or_else(|| "it is no duration; say how many seconds, or as 10m".to_string())
}

/// A duration between looks, which the cluster has to bear.
fn pause(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        pause if pause < LEAST_PAUSE => Err(format!("it must be {} seconds at least", LEAST_PAUSE.as_secs_f64())),
        pause => Ok(pause),
    }
}

const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// A time, or how long ago: in nanoseconds since 1970.
fn since(text: &str) -> Result<u64, String> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time.as_nanosecond(),
        Err(_) => {
            let ago = duration(text).map_err(|_| "it is neither a time nor how long ago".to_string())?;
            Timestamp::now().as_nanosecond().saturating_sub(i128::try_from(ago.as_nanos()).unwrap_or(i128::MAX))
        }
    };
    Ok(u64::try_from(time).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_a_cluster_is_started_with_is_passed_on() {
        let told = [
            "local-cluster",
            "start",
            "--workers",
            "2",
            "--threads=3",
            "--memory-limit",
            "1GB",
            "--total-memory-limit",
            "4GB",
            "--shared-memory-limit",
            "1GB",
            "--record",
            "/c d",
            "--record-limit",
            "2MB",
            "--spill-directory",
            "/a b",
            "--spill-limit",
            "1GB",
            "--size",
            "small",
            "--tag",
            "0=gpu",
            "--tag",
            "1=-x",
            "--resource",
            "0=gpu:2",
            "--resource",
            "1=a:b=c:0.3",
            "--env",
            "A=-b=c",
            "--name",
            "start",
        ];
        let Command::Start { start, .. } = Options::try_parse_from(told).unwrap().command else { panic!() };
        for for_run in [false, true] {
            let served = Served { name: "-x".to_string(), for_run, start: start.clone() };
            let again = Served::try_parse_from(served.arguments()).unwrap();
            assert_eq!((again.name.as_str(), again.for_run, again.start), ("-x", for_run, served.start));
        }
    }

    #[test]
    fn times_are_read() {
        for (text, millis) in [("0", 0), ("1.5", 1500), ("60", 60_000), ("60s", 60_000), ("1h 30m", 5_400_000)] {
            assert_eq!(duration(text).unwrap().as_millis(), millis, "{text}");
        }
        for text in ["", "-1", "soon", "-5m", "nan"] {
            duration(text).unwrap_err();
        }
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), 1_000_000_000);
        let now = Timestamp::now().as_nanosecond() as u64;
        let ago = (now - since("10m").unwrap()) / 1_000_000;
        assert!((599_000..=600_000).contains(&ago), "{ago}");
    }
}
