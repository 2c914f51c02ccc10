//! What tasks print, until the program's own output has it: much of it at once, and a little by each of many tasks.

use crate::options::Options;
use crate::process::{self, Guard};
use crate::report::{Metric, Outcome, Report, require};
use crate::systems;
use serde_json::json;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;
use swath::delayed;

const PARTS: [&str; 5] = ["stdout", "stdout unended", "stderr", "stderr unended", "dots"];
/// Bytes of a line.
const LINE: usize = 1000;
/// What says that it begins.
const BEGIN: u8 = b'!';

fn write_lines(stderr: bool, ended: bool, lines: usize) -> u64 {
    let mut line = vec![b'x'; LINE];
    if ended {
        line[LINE - 1] = b'\n';
    }
    let mut stream: Box<dyn Write> = if stderr { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    let written = (0..lines).filter(|_| stream.write_all(&line).is_ok()).count();
    let _ = stream.flush();
    written as u64
}

fn dot(x: u64) -> u64 {
    print!(".");
    x
}

fn is_stderr(part: &str) -> bool {
    part.starts_with("stderr")
}

/// How many lines or tasks of a part there are.
fn count(options: &Options, part: &str) -> usize {
    match part {
        "dots" => options.n.unwrap_or(10_000) as usize,
        _ => (options.mib.unwrap_or(100) << 20) / LINE,
    }
}

/// Prints, or has tasks print, from the moment at which it says so.
pub(crate) fn child(options: &Options) -> Outcome {
    let part = options.part.as_ref().and_then(|parts| parts.first()).map_or("dots", |part| part);
    let (stderr, ended, n) = (is_stderr(part), !part.ends_with("unended"), count(options, part));
    let begin = || if stderr { io::stderr().write_all(&[BEGIN]) } else { io::stdout().write_all(&[BEGIN]) };
    let client = match &options.systems {
        Some(systems) if systems.iter().any(|system| system == "swath-processes") => {
            Some(systems::open("swath-processes", 1)?)
        }
        _ => None,
    };
    begin()?;
    io::stdout().flush()?;
    match (client, part) {
        (Some(client), "dots") => drop(client.compute(delayed(dot).map(0..n as u64))?),
        (Some(client), _) => drop(client.compute(&delayed(write_lines).call(stderr, ended, n))?),
        (None, "dots") => (0..n).for_each(|_| {
            print!(".");
            let _ = io::stdout().flush();
        }),
        (None, _) => require(write_lines(stderr, ended, n) == n as u64, "lines")?,
    }
    Ok(())
}

/// Seconds until all of a part has come.
fn once(system: &str, part: &str, options: &Options) -> Outcome<f64> {
    let n = count(options, part);
    let mut command = Command::new(process::SELF);
    command.args(["print-child", "--systems", system, "--part", part, "--n", &n.to_string()]);
    command.args(["--mib", &options.mib.unwrap_or(100).to_string()]);
    match is_stderr(part) {
        true => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        false => command.stdout(Stdio::piped()).stderr(Stdio::null()),
    };
    let mut child = Guard(command.spawn()?);
    let pipe: Box<dyn Read> = match is_stderr(part) {
        true => Box::new(child.0.stderr.take().ok_or("no standard error")?),
        false => Box::new(child.0.stdout.take().ok_or("no standard output")?),
    };
    let took = until_all(pipe, if part == "dots" { n } else { n * LINE })?;
    require(child.0.wait()?.success(), "the child failed")?;
    Ok(took)
}

fn until_all(mut pipe: impl Read, bytes: usize) -> Outcome<f64> {
    let mut buffer = vec![0; 256 << 10];
    let mut left = bytes + 1;
    let mut start = Instant::now();
    let mut first = true;
    while left > 0 {
        let read = pipe.read(&mut buffer)?;
        require(read > 0 && read <= left, "another number of bytes")?;
        if std::mem::take(&mut first) {
            require(buffer[0] == BEGIN, "something else was printed")?;
            start = Instant::now();
        }
        left -= read;
    }
    let took = start.elapsed().as_secs_f64();
    require(pipe.read(&mut buffer)? == 0, "more was printed")?;
    Ok(took)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let mut options = options.clone();
    options.mib = options.mib.or(options.quick.then_some(1));
    options.n = options.n.or(options.quick.then_some(100));
    report.for_each(|report, system| {
        for part in PARTS.into_iter().filter(|part| options.wants_part(part)) {
            let took = (0..options.repeat).map(|_| once(system, part, &options)).collect::<Outcome<Vec<f64>>>()?;
            let n = count(&options, part) as f64;
            let (params, metric, of): (_, _, &dyn Fn(f64) -> f64) = match part {
                "dots" => (json!({"part": part, "n": n}), Metric::new("time per task", "us"), &|t| t * 1e6 / n),
                _ => (json!({"part": part}), Metric::new("rate", "MB/s"), &|t| n * LINE as f64 / t / 1e6),
            };
            report.emit_runs(system, &params, metric, &took.iter().map(|t| of(*t)).collect::<Vec<_>>());
        }
        Ok(())
    });
}
