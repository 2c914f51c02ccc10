//! The scheduler driven by itself, as the floor for measurements of what surrounds it.

use super::{Command, Completion, Config, Scheduler, WorkerSpec};
use crate::ids::{JobId, SessionId, WorkerId};
use crate::ipc::payload::Payload;
use crate::job::{JobSpec, Outcome, WantedResult};
use std::sync::Arc;
use std::time::Duration;

/// Runs `n` tasks that do nothing through a scheduler with so many workers of one thread, without any transport, and
/// delivers each result. Gives the number of results delivered.
pub(crate) fn drive_noops(n: u32, workers: u32) -> u64 {
    let spec = JobSpec {
        body_ends: vec![0; n as usize],
        dep_ends: vec![0; n as usize],
        outputs: (0..n).map(|index| WantedResult { index, deliver: true }).collect(),
        ..JobSpec::default()
    };
    let mut scheduler = Scheduler::new(Config::default());
    for number in 0..workers {
        let spec = WorkerSpec { name: format!("worker-{number}"), threads: 1, ..WorkerSpec::default() };
        scheduler.worker_joined(WorkerId(number), spec);
    }
    let job = JobId { session: SessionId(0), number: 0 };
    let now = Duration::ZERO;
    let payload = Payload::inline(&[0]);
    let mut delivered = 0;
    let mut commands = Vec::new();
    if scheduler.submit(job, Arc::new(spec), now).is_err() {
        return 0;
    }
    while delivered < u64::from(n) {
        scheduler.dispatch(now, &mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Run { worker, tasks } => {
                    let done = tasks.into_iter().map(|task| Completion {
                        id: task.id,
                        attempt: task.attempt,
                        run_us: 0,
                        outcome: Outcome::Value(payload.clone()),
                    });
                    scheduler.finished(worker, done.collect(), now);
                }
                Command::Deliver { deliveries, .. } => delivered += deliveries.len() as u64,
                Command::Retract { worker, .. } => scheduler.retracted(worker, &[]),
                _ => {}
            }
        }
    }
    let all: Vec<u32> = (0..n).collect();
    scheduler.release(job, &all);
    delivered
}
