//! `local-cluster`: starts worker processes that outlive the programs that use them, and looks after them.

mod completions;
mod failure;
mod logs;
mod manual;
mod options;
mod saved;
mod show;
mod start;

use clap::Parser;
use failure::{Failure, Outcome};
use options::{Command, Options, SERVE, Served, StartOptions};
use show::{json, say};
use std::process::ExitCode;
use swath::local;

fn main() -> ExitCode {
    let done = match std::env::args_os().nth(1).is_some_and(|first| first == SERVE) {
        true => Served::try_parse_from(std::env::args_os().skip(1)).map(|served| start::serve_behind(&served)),
        false => Options::try_parse().map(|options| run(&options).map_err(|failure| failure.of_cluster(&options.name))),
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.tell(),
        Err(e) => {
            // Where the stream is closed there is nobody to tell.
            let _ = e.print();
            ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
        }
    }
}

fn run(options: &Options) -> Outcome {
    use Command::*;
    let name = options.name.as_str();
    match &options.command {
        Start { start, form, foreground: true } => start::serve_here(name, start, form.json),
        Start { start, form, .. } => {
            let status = start::start(name, start)?;
            if form.json { json(&status) } else { say(&show::started(&status)) }
        }
        Status { watch, form } => show::status(name, form.json, *watch),
        Stop { drain: true, timeout } => match local::drain(name, *timeout)? {
            0 => say(&format!("local cluster `{name}` has stopped\n")),
            cut => {
                Err(Failure::TimedOut(format!("local cluster `{name}` has stopped, and {cut} task(s) were cut off")))
            }
        },
        Stop { .. } => {
            local::stop(name)?;
            say(&format!("local cluster `{name}` has stopped\n"))
        }
        Restart { worker: Some(worker), timeout, .. } => {
            local::restart_worker(name, worker, *timeout)?;
            say(&format!("{worker} of local cluster `{name}` is a new one\n"))
        }
        Restart { rolling: true, timeout, .. } => {
            let replaced = local::restart_rolling(name, *timeout)?;
            say(&format!("local cluster `{name}` has replaced {replaced} worker(s)\n"))
        }
        Restart { .. } => {
            local::restart(name)?;
            say(&format!("local cluster `{name}` replaces its workers\n"))
        }
        Retire { workers, timeout } => {
            local::retire(name, workers, *timeout)?;
            say(&format!("local cluster `{name}` has no {} any more\n", workers.join(", ")))
        }
        Scale { workers } => {
            local::scale(name, *workers)?;
            say(&format!("local cluster `{name}` has {workers} worker(s) for each program from now on\n"))
        }
        Wait { workers, timeout } => Ok(local::wait_for_workers(name, *workers, *timeout)?),
        Logs(options) => logs::logs(name, options),
        Run { start: true, options, program } => start::run_with_cluster(name, options, program),
        Run { options, .. } if *options != StartOptions::default() => {
            Err(Failure::Usage("what a cluster is started with belongs to `--start`".to_string()))
        }
        Run { program, .. } => start::run(name, program),
        Explain { key, file, form } => saved::explain(name, key, file.as_deref(), form.json),
        Events { file, form } => saved::events(name, file.as_deref(), form.json),
        Why { graph, label, of, form } => saved::why(name, of, *graph, label.as_deref(), form.json),
        Deaths { file, form } => saved::deaths(name, file.as_deref(), form.json),
        Graph { output, of } => saved::graph(name, of, output.as_deref()),
        Trace { file, output } => saved::trace(name, file.as_deref(), output),
        Report { file, output } => saved::report(name, file.as_deref(), output),
        Dump { output } => saved::dump(name, output),
        Sizes(form) => show::sizes(form.json),
        Completions { shell } => say(&completions::script(*shell)),
        Man => say(&manual::page()?),
    }
}
