//! What the operator's commands do to a cluster.

use super::actor::{
    Daemon, Draining, End, GetOverview, GetRecording, HowRecorded, Leaving, LetNobodyIn, Overview, Restart, Scale,
    SupervisorOf,
};
use super::connect::FIRST_WORD;
use super::explain::explain;
use super::recording;
use crate::error::LogLine;
use crate::events::sources::RunSources;
use crate::host::report;
use crate::ipc::frame::Decoder;
use crate::message::{Attached, Control};
use crate::settings::MOST_WORKERS;
use crate::status::ClusterStatus;
use crate::supervisor::actor::{Remember, Replace, Retire, Snapshot, TellCounts, Unfinished};
use crate::supervisor::connection::Connection;
use actix::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long supervisors may take to stop.
const STOP: Duration = Duration::from_secs(5);
/// How long a recording may take to be written.
const FLUSHED: Duration = Duration::from_secs(10);
/// How often a cluster that lets nobody in looks whether graphs are under way.
const DRAINED: Duration = Duration::from_millis(20);

pub(super) type Answer<T> = std::result::Result<T, String>;

/// Does what a command says, and answers.
pub(super) async fn obey(command: Control, connection: &Arc<Connection>, cluster: &Addr<Daemon>) {
    report!(Debug, "command: {command:?}");
    let stop = matches!(command, Control::Stop | Control::Drain { .. });
    let answer = match command {
        Control::Status => status(cluster).await.map(|(status, _)| Attached::Status(Box::new(status))),
        Control::Explain { key } => {
            explain(cluster, &key).await.map(|explanation| Attached::Explained(Box::new(explanation)))
        }
        Control::Logs { since } => status(cluster).await.map(|(_, mut lines)| {
            lines.retain(|(came, ..)| *came >= since);
            Attached::Logs(lines.into_iter().map(|(_, build, line)| (build, line)).collect())
        }),
        Control::SaveEvents { path } => save_events(cluster, path).await.map(Attached::Saved),
        Control::Scale(n) if n == 0 || n > MOST_WORKERS => Err(format!("{n} workers; it must be 1 to {MOST_WORKERS}")),
        Control::Scale(n) => sent(cluster.send(Scale(n)).await).and_then(|done| done).map(|()| Attached::Done),
        Control::Restart => sent(cluster.send(Restart).await).map(|()| Attached::Done),
        Control::Retire { build, workers } => match supervisor(cluster, build).await {
            Ok(supervisor) => done(sent(supervisor.send(Retire(workers)).await)),
            Err(reason) => Err(reason),
        },
        Control::RestartWorker { build, worker, millis } => match supervisor(cluster, build).await {
            Ok(supervisor) => {
                let within = Duration::from_millis(millis);
                done(sent(supervisor.send(Replace { worker, within }).await))
            }
            Err(reason) => Err(reason),
        },
        Control::Stop => {
            report!(Info, "stopping: told to");
            end(cluster).await;
            Ok(Attached::Done)
        }
        Control::Drain { millis } => {
            report!(Info, "draining: told to stop when no graph is under way");
            let cut = drain(cluster, millis.map(Duration::from_millis)).await;
            report!(Info, "stopping: {cut} task(s) are cut off");
            end(cluster).await;
            Ok(Attached::Drained { cut })
        }
    };
    if let Err(e) = connection.send(&answer.unwrap_or_else(Attached::Refused)) {
        report!(Error, "a command cannot be answered: {e}");
    }
    if stop {
        System::current().stop();
        // Whoever gave the command sees by the end of the connection that this process has ended.
        return std::future::pending().await;
    }
    // A long answer may still be on its way.
    let over = tokio::time::timeout(FIRST_WORD, connection.receive(&mut Decoder::new(0))).await;
    report!(Trace, "a command's connection ended: {}", over.is_ok());
}

pub(super) fn sent<T>(answer: std::result::Result<T, MailboxError>) -> Answer<T> {
    answer.map_err(|e| e.to_string())
}

/// What a supervisor has said. None: its core has panicked.
fn done(answer: Answer<Option<Answer<()>>>) -> Answer<Attached> {
    answer?.unwrap_or_else(|| Err("its supervisor has failed".to_string())).map(|()| Attached::Done)
}

async fn supervisor(cluster: &Addr<Daemon>, build: String) -> Answer<Addr<crate::supervisor::actor::Supervisor>> {
    let found = sent(cluster.send(SupervisorOf(build.clone())).await)?;
    found.ok_or_else(|| format!("no program of build {build} has workers any more"))
}

/// The whole status, and what all workers have printed, each line with the time when it came and the build that it is from.
async fn status(cluster: &Addr<Daemon>) -> Answer<(ClusterStatus, Vec<(u64, String, LogLine)>)> {
    let Overview { mut status, supervisors, .. } = sent(cluster.send(GetOverview).await)?;
    let mut logs = Vec::new();
    for (program, supervisor) in status.programs.iter_mut().zip(supervisors) {
        // One that stops meanwhile has no workers to show.
        if let Ok(Some(overview)) = supervisor.send(Snapshot).await {
            (program.workers, program.deaths) = (overview.workers, overview.deaths);
            program.unfinished = overview.unfinished;
            program.shared = overview.shared;
            logs.extend(overview.logs.into_iter().map(|(came, mut line)| {
                line.worker = format!("{}/{}", program.program, line.worker);
                (came, program.build.clone(), line)
            }));
        }
    }
    Ok((status, logs))
}

/// Has what has happened in a log: in the recording if there is one, otherwise in a new file there.
async fn save_events(cluster: &Addr<Daemon>, path: PathBuf) -> Answer<PathBuf> {
    let HowRecorded { recording, programs, started: (clock, started) } = sent(cluster.send(GetRecording).await)?;
    if let Some(recording) = recording {
        for (_, supervisor) in programs {
            // One that stops has told them.
            let _ = supervisor.send(TellCounts).await;
        }
        let until = Instant::now() + FLUSHED;
        if let Some(flushing) = recording.flush() {
            while !flushing.is_done() && Instant::now() < until {
                actix_rt::time::sleep(Duration::from_millis(2)).await;
            }
        }
        return Ok(recording.path.clone());
    }
    let mut remembered = Vec::new();
    for (program, supervisor) in programs {
        let sources = Arc::new(RunSources::of_program());
        if supervisor.send(Remember(Arc::clone(&sources))).await.is_ok() {
            remembered.push((program, sources));
        }
    }
    let file = path.clone();
    let written = actix_rt::task::spawn_blocking(move || recording::write(&file, started, clock, remembered)).await;
    written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(path)
}

/// Lets nobody in, and waits until no graph is under way and its results have been sent, or the time is over; answers how
/// many tasks are still to be done.
async fn drain(cluster: &Addr<Daemon>, timeout: Option<Duration>) -> u64 {
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    // The last results are on their way to the connections when the last task has ended.
    let mut ended_before = false;
    loop {
        let Ok(Draining { supervisors, flushed }) = cluster.send(LetNobodyIn).await else { return 0 };
        let mut unfinished = 0;
        for supervisor in supervisors {
            unfinished += supervisor.send(Unfinished).await.ok().flatten().unwrap_or(0);
        }
        let done = unfinished == 0 && ended_before && flushed;
        ended_before = unfinished == 0;
        if done || until.is_some_and(|until| Instant::now() >= until) {
            return unfinished;
        }
        actix_rt::time::sleep(DRAINED).await;
    }
}

/// Ends all workers.
pub(super) async fn end(cluster: &Addr<Daemon>) {
    let Ok(Leaving(supervisors)) = cluster.send(End).await else { return };
    let until = Instant::now() + STOP;
    while supervisors.iter().any(Addr::connected) && Instant::now() < until {
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
}
