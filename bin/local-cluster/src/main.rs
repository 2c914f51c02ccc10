//! `local-cluster`: starts worker processes that outlive the programs that use them, and looks after them.

use lexopt::prelude::*;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use swath::local::{self, ClusterStatus, DEFAULT_NAME};
use swath::{Builder, Client, MemoryLimit, describe_sizes};

const HELP: &str = "\
Worker processes that outlive the programs that use them.

Usage: local-cluster COMMAND [OPTIONS]

Commands:
  start      start a cluster in the background
  status     show a cluster, its programs and workers
  stop       stop a cluster and its workers
  restart    replace all workers by new ones
  scale N    have N workers from now on
  logs       show what the cluster and its workers wrote last
  sizes      list named worker sizes, as large as they are on this machine or in its control group

Options of every command:
  --name NAME                  the cluster's name (default: default)
  --json                       print JSON (start, status, logs, sizes)
  -h, --help                   print this
  -V, --version                print the version; a program and its cluster need the same one

Options of start:
  --workers N                  worker processes (default: one for each core)
  --threads N                  executor threads of each worker (default: 1)
  --memory-limit SIZE          of each worker, as 2GB, 512MiB or 25% (default: none)
  --shared-memory-limit SIZE   of all values together (default: half of the available memory)
  --spill-directory PATH       where results go that do not fit into memory (default: /var/tmp)
  --spill-limit SIZE           of all of them together (default: what there is room for)
  --size NAME                  a named size for what is not given: workers, threads, memory limit
  --tag INDEX=NAME             a tag of worker INDEX (from 0), for tasks that ask for it; may be repeated
  --env NAME=VALUE             a variable for the workers, beside those of `start`; may be repeated
  --foreground                 stay in this terminal and log to it

A program connects with Client::connect(\"NAME\"), or through the variable SWATH_CLUSTER=NAME where it uses
Client::from_env(). Workers run the program's own executable, in the directory and with the environment of `start`;
they are started when the first program connects, and each build of a program has workers of its own.

Exit codes: 0 done, 1 failed, 2 wrong usage.
";

/// How long the parent waits for the cluster to be ready.
const START: Duration = Duration::from_secs(60);
/// The cluster itself, as `start` runs it.
const SERVE: &str = "__serve";

/// Why the command ends without having done what it was told.
enum Failure {
    Usage(String),
    Failed(String),
}

impl From<lexopt::Error> for Failure {
    fn from(e: lexopt::Error) -> Self {
        Self::Usage(e.to_string())
    }
}

impl From<swath::Error> for Failure {
    fn from(e: swath::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

type Outcome = Result<(), Failure>;

struct Options {
    command: String,
    name: String,
    count: Option<usize>,
    json: bool,
    foreground: bool,
    builder: Builder,
    /// What belongs to `start` alone, to refuse it elsewhere and to pass it on.
    start: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match parse() {
        Ok(Some(options)) => run(options),
        Ok(None) => Ok(()),
        Err(e) => Err(e),
    };
    // Where standard error is closed there is nobody to tell; the exit code remains.
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(reason)) => {
            let _ = writeln!(std::io::stderr(), "local-cluster: {reason}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(reason)) => {
            let _ = writeln!(std::io::stderr(), "local-cluster: {reason}\nTry `local-cluster --help`.");
            ExitCode::from(2)
        }
    }
}

/// None: help or the version is asked for, and has been given.
fn parse() -> Result<Option<Options>, Failure> {
    let mut parser = lexopt::Parser::from_env();
    let mut options = Options {
        command: String::new(),
        name: DEFAULT_NAME.to_string(),
        count: None,
        json: false,
        foreground: false,
        builder: Client::builder(),
        start: Vec::new(),
    };
    while let Some(argument) = parser.next()? {
        let start = |option: &str, value: &str| [format!("--{option}"), value.to_string()];
        match argument {
            Short('h') | Long("help") => return say(HELP).map(|()| None),
            Short('V') | Long("version") => {
                return say(&format!("local-cluster {}\n", local::version())).map(|()| None);
            }
            Long("json") => options.json = true,
            Long("foreground") => options.foreground = true,
            Long("name") => options.name = parser.value()?.string()?,
            Long("workers") => {
                let n: usize = parser.value()?.parse()?;
                options.start.extend(start("workers", &n.to_string()));
                options.builder = options.builder.workers(at_least_one("workers", n)?);
            }
            Long("threads") => {
                let n: usize = parser.value()?.parse()?;
                options.start.extend(start("threads", &n.to_string()));
                options.builder = options.builder.threads(at_least_one("threads", n)?);
            }
            Long("memory-limit") => {
                let text = parser.value()?.string()?;
                options.start.extend(start("memory-limit", &text));
                options.builder = options.builder.memory_limit(limit("memory-limit", &text)?);
            }
            Long("spill-directory") => {
                let path = PathBuf::from(parser.value()?);
                options.start.extend(start("spill-directory", &path.to_string_lossy()));
                options.builder = options.builder.spill_directory(path);
            }
            Long("spill-limit") => {
                let text = parser.value()?.string()?;
                options.start.extend(start("spill-limit", &text));
                options.builder = options.builder.spill_limit(limit("spill-limit", &text)?);
            }
            Long("shared-memory-limit") => {
                let text = parser.value()?.string()?;
                options.start.extend(start("shared-memory-limit", &text));
                options.builder = options.builder.shared_memory_limit(limit("shared-memory-limit", &text)?);
            }
            Long("size") => {
                let name = parser.value()?.string()?;
                let sizes = describe_sizes()?;
                if !sizes.iter().any(|size| size.name == name) {
                    let names: Vec<_> = sizes.iter().map(|size| size.name.as_str()).collect();
                    let names = names.join(", ");
                    return Err(Failure::Usage(format!("there is no size `{name}`; it is one of {names}")));
                }
                options.start.extend(start("size", &name));
                options.builder = options.builder.size(name);
            }
            Long("tag") => {
                let text = parser.value()?.string()?;
                let parts = text.split_once('=').and_then(|(index, tag)| Some((index.parse().ok()?, tag)));
                let (index, tag) = parts.filter(|(_, tag)| !tag.is_empty()).ok_or_else(|| {
                    Failure::Usage(format!("--tag: `{text}`; say which worker and what it has, as 0=gpu"))
                })?;
                options.builder = options.builder.worker_tags(index, [tag]);
                options.start.extend(start("tag", &text));
            }
            Long("env") => {
                let text = parser.value()?.string()?;
                let (name, value) = text
                    .split_once('=')
                    .ok_or_else(|| Failure::Usage(format!("--env: `{text}`; say which variable and its value")))?;
                options.builder = options.builder.worker_env(name, value);
                options.start.extend(start("env", &text));
            }
            Value(word) if options.command.is_empty() => options.command = word.string()?,
            Value(number) if options.command == "scale" && options.count.is_none() => {
                options.count = Some(at_least_one("workers", number.parse()?)?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.command == "help" {
        return say(HELP).map(|()| None);
    }
    let starts = matches!(options.command.as_str(), "start" | SERVE);
    if !starts && (options.foreground || !options.start.is_empty()) {
        let option = options.start.first().map_or("--foreground", String::as_str);
        return Err(Failure::Usage(format!("`{option}` belongs to `start`")));
    }
    if options.json && !matches!(options.command.as_str(), "start" | "status" | "logs" | "sizes") {
        return Err(Failure::Usage(format!("`{}` prints nothing that could be JSON", options.command)));
    }
    Ok(Some(options))
}

fn at_least_one(what: &str, n: usize) -> Result<usize, Failure> {
    match n {
        0 => Err(Failure::Usage(format!("0 {what}; there must be at least one"))),
        n => Ok(n),
    }
}

fn limit(option: &str, text: &str) -> Result<MemoryLimit, Failure> {
    let limit: Result<MemoryLimit, _> = text.parse();
    let wrong = |e: swath::Error| Failure::Usage(format!("--{option}: {e}"));
    let limit = limit.map_err(wrong)?;
    limit.bytes().map_err(wrong)?;
    Ok(limit)
}

fn run(options: Options) -> Outcome {
    let name = &options.name;
    match options.command.as_str() {
        "start" if options.foreground => serve_here(options),
        "start" => start(&options),
        SERVE => serve_behind(options),
        "status" => {
            let status = local::status(name)?;
            if options.json { json(&status) } else { say(&describe(&status)) }
        }
        "stop" => {
            local::stop(name)?;
            say(&format!("local cluster `{name}` has stopped\n"))
        }
        "restart" => {
            local::restart(name)?;
            say(&format!("local cluster `{name}` replaces its workers\n"))
        }
        "scale" => {
            let n = options.count.ok_or_else(|| Failure::Usage("say how many workers: `scale N`".to_string()))?;
            local::scale(name, n)?;
            say(&format!("local cluster `{name}` has {n} worker(s) for each program from now on\n"))
        }
        "logs" => {
            let logs = local::logs(name)?;
            if options.json {
                return json(&logs);
            }
            logs.iter().try_for_each(|log| {
                let end = if log.text.is_empty() || log.text.ends_with('\n') { "" } else { "\n" };
                say(&format!("--- {} ---\n", log.source))?;
                if log.lines.is_empty() {
                    return say(&format!("{}{end}", log.text));
                }
                log.lines.iter().try_for_each(|line| match line.tasks.is_empty() {
                    true => say(&format!("{}\n", line.text)),
                    false => say(&format!("[{}] {}\n", line.tasks.join(", "), line.text)),
                })
            })
        }
        "sizes" => sizes(options.json),
        "" => Err(Failure::Usage("a command is missing".to_string())),
        other => Err(Failure::Usage(format!("there is no command `{other}`"))),
    }
}

fn say(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
    say(&format!("{text}\n"))
}

fn log_to_stderr() {
    let filter = env_logger::Env::default().default_filter_or("info");
    // There is only one place where it is set, so it cannot be set already.
    let began = Instant::now();
    let _ = env_logger::Builder::from_env(filter)
        .format(move |out, record| {
            let (up, level) = (began.elapsed().as_secs_f64(), record.level());
            writeln!(out, "{up:10.3} s {level:<5} {}", record.args())
        })
        .try_init();
}

fn serve_here(options: Options) -> Outcome {
    log_to_stderr();
    let json_wanted = options.json;
    let told = |status: &ClusterStatus| {
        let text = if json_wanted { json(status) } else { say(&started(status)) };
        if text.is_err() {
            log::warn!("standard output is closed");
        }
    };
    Ok(local::serve(options.builder.name(options.name), told)?)
}

/// What the cluster in the background tells the process that started it.
#[derive(serde::Deserialize, Serialize)]
enum Word {
    Ready(ClusterStatus),
    Failed(String),
}

/// Starts the cluster as a process of its own and waits until it is ready.
fn start(options: &Options) -> Outcome {
    let log = local::log_file(&options.name)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("local-cluster")
        .args([SERVE, "--name", &options.name])
        .args(&options.start)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    ours.set_read_timeout(Some(START))?;
    let mut word = String::new();
    let heard = ours.read_to_string(&mut word);
    match serde_json::from_str(&word) {
        Ok(Word::Ready(status)) if options.json => json(&status),
        Ok(Word::Ready(status)) => say(&started(&status)),
        Ok(Word::Failed(reason)) => {
            child.wait()?;
            Err(Failure::Failed(reason))
        }
        Err(_) if heard.is_err() => {
            let waited = START.as_secs();
            child.kill()?;
            child.wait()?;
            Err(Failure::Failed(format!("it was not ready within {waited} s; its log is {}", log.display())))
        }
        Err(_) => {
            let status = child.wait()?;
            Err(Failure::Failed(format!("it ended while it started ({status}); its log is {}", log.display())))
        }
    }
}

/// The cluster in the background: standard input leads to the process that waits for it to be ready.
fn serve_behind(options: Options) -> Outcome {
    let mut parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null).map_err(std::io::Error::from)?;
    // Away from the terminal, whose end is not to be the cluster's.
    nix::unistd::setsid().map_err(std::io::Error::from)?;
    log_to_stderr();
    let tell = |parent: &mut UnixStream, word: &Word| {
        let told = serde_json::to_vec(word).map_err(std::io::Error::from).and_then(|text| parent.write_all(&text));
        if let Err(e) = told.and_then(|()| parent.shutdown(std::net::Shutdown::Both)) {
            log::warn!("whoever started this cluster does not listen: {e}");
        }
    };
    let mut ready = parent.try_clone()?;
    let outcome =
        local::serve(options.builder.name(options.name), |status| tell(&mut ready, &Word::Ready(status.clone())));
    match outcome {
        Ok(()) => Ok(()),
        Err(e) => {
            // Too late if the cluster was ready already; then the log tells.
            log::error!("{e}");
            tell(&mut parent, &Word::Failed(e.to_string()));
            Err(e.into())
        }
    }
}

fn started(status: &ClusterStatus) -> String {
    format!(
        "local cluster `{name}` is running: process {pid}, socket {socket}\n\
         {sizes} for each program that connects with Client::connect(\"{name}\") or SWATH_CLUSTER={name}\n",
        name = status.name,
        pid = status.pid,
        socket = status.socket.display(),
        sizes = describe_sizes_of(status),
    )
}

fn describe_sizes_of(status: &ClusterStatus) -> String {
    let limit =
        status.memory_limit.map_or("no memory limit".to_string(), |l| format!("memory limit {} each", bytes(l)));
    format!("{} worker(s) x {} thread(s), {limit}", status.workers, status.threads)
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

fn describe(status: &ClusterStatus) -> String {
    let mut out = String::new();
    let mut line = |text: String| out.extend([text.as_str(), "\n"]);
    line(format!("local cluster `{}`, process {}, up {:.1} s", status.name, status.pid, status.uptime_seconds));
    line(format!("  socket        {}", status.socket.display()));
    line(format!("  directory     {}", status.directory.display()));
    line(format!("  machine       {}", status.machine));
    line(format!("  each program  {}", describe_sizes_of(status)));
    let (used, limit) = (bytes(status.shared_memory_used), bytes(status.shared_memory_limit));
    line(format!("  shared memory {used} of {limit}"));
    if status.programs.is_empty() {
        line("  no program is connected".to_string());
    }
    for program in &status.programs {
        let build = program.build.get(..12).unwrap_or(&program.build);
        line(format!("{} (build {build}), {} connection(s)", program.program, program.sessions));
        for w in &program.workers {
            let limit = w.limit.map_or(String::new(), |l| format!(" of {}", bytes(l)));
            let state = w.state;
            let memory = bytes(w.memory);
            line(format!("  {:<12} pid {:<8} {state:<9} {:>4} task(s)  {memory}{limit}", w.name, w.pid, w.tasks));
            let (shared, managed, spilled) = (bytes(w.shared_memory), bytes(w.managed), bytes(w.spilled));
            line(format!("               shared {shared}, results in memory {managed}, on disk {spilled}"));
            if let Some(why) = &w.paused {
                line(format!("               starts no tasks: {why}"));
            }
        }
        for death in &program.deaths {
            line(format!("  died: {death}"));
        }
    }
    out
}

fn sizes(as_json: bool) -> Outcome {
    let sizes = describe_sizes()?;
    if as_json {
        return json(&sizes);
    }
    say(&format!("{:<8} {:>7} {:>10} {:>5}\n", "size", "threads", "memory", "fits"))?;
    sizes.iter().try_for_each(|size| {
        say(&format!("{:<8} {:>7} {:>10} {:>5}\n", size.name, size.threads, bytes(size.memory_bytes), size.fits))
    })?;
    say(&format!("of {}\n", local::machine()?))
}
