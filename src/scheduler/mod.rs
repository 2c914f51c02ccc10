//! The scheduler: a pure state machine. Events come in as method calls, commands go out of [`Scheduler::dispatch`].
//!
//! It does no I/O, reads no clock (time is an argument) and knows no actor. The rules it keeps:
//!
//! * A task is *active* while it waits, is ready, waits for a transfer, or is assigned. An active task uses its inputs.
//!   A task's `uses` are its active dependents plus the session's claim; at zero its value is dropped, or its work is.
//! * A value is *available* in the states `Done` and `Data`. `Waiting { missing }` counts the inputs that are not,
//!   and the run of the same task that was cancelled but has not ended yet, if there is one. So a task is never in flight twice,
//!   and a worker's late message about a cancelled run cannot be mistaken for one about the next run.
//! * A cancelled run leaves the task at once and stays with its worker as a *zombie*: it takes a thread until it ends.
//! * A value that was dropped or lost is not special: whoever uses it again starts the task again, and what that needs.
//! * A short task whose missing inputs, of whatever job, are all in flight on one worker may be sent there ahead of them,
//!   so that the worker starts it as soon as they have ended (`pipelining`). If one of them has no result there,
//!   the worker sends the task back.
//! * A task whose result is taken apart has no value: its dependents are its *parts*, which do not run. A part waits while
//!   its maker is to run, and is done, lost, made again and dropped by itself; a run makes the parts that are waited for.
//! * An *alias* is a job of one task that has the value of another job's task, for another session or to be published. It
//!   waits as long as it is claimed, and so uses that value, whoever else does; nothing depends on it, and it never runs.
//! * Commands for one worker are to be obeyed in the order given. `Fetch` never names a value that is not there;
//!   `Drop` may.
//!
//! Nothing recurses over the graph: `work` (lost its last use) and `restart` (needed again) are the work lists of
//! [`Scheduler::settle`].

mod alias;
mod blame;
mod deliveries;
mod drive;
mod estimates;
mod explain;
mod find;
mod groups;
mod job;
mod membership;
mod memory;
mod pipelining;
mod placement;
mod prepared;
mod queries;
mod ready;
mod retraction;
mod room;
mod sessions;
mod shared;
#[cfg(test)]
mod sim;
mod submit;
#[cfg(test)]
mod tests;
mod transitions;
#[cfg(test)]
mod validate;
mod values;
mod worker;

pub(crate) use drive::drive_noops;
pub(crate) use find::Fits;
pub(crate) use prepared::Prepared;
pub(crate) use queries::Load;
pub(crate) use submit::SubmitError;
pub(crate) use worker::WorkerSpec;

use crate::error::DeathCause;
use crate::fairness::{Program, Rank};
use crate::ids::{SessionId, TaskId, WorkerId};
pub(crate) use crate::job::Completion;
use crate::job::{Delivery, Input, JobSpec, SharedPayload, WantedPart};
use job::{Jobs, TaskRef};
use ready::ReadyLanes;
use std::sync::Arc;
use std::time::Duration;
use worker::Workers;

/// What may be set about scheduling.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// A task that was running on this many dying workers fails.
    pub(crate) allowed_deaths: u32,
    /// How long a cancelled task may go on before its worker is replaced.
    pub(crate) cancel_grace: Duration,
    /// Estimated work a worker may have queued for each of its threads.
    pub(crate) prefetch: Duration,
    /// Copies of values that take so many bytes are given up when memory is short.
    pub(crate) large_copy: u64,
    /// Tasks without inputs start as long as results, with those to come, take no more than this share of a worker's
    /// memory limit.
    pub(crate) source_share: f64,
    /// A value of more bytes that several tasks use is sent to a worker once.
    pub(crate) share_above: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allowed_deaths: 3,
            cancel_grace: Duration::from_secs(5),
            prefetch: Duration::from_millis(4),
            large_copy: 64 << 10,
            source_share: 0.6,
            share_above: 4 << 10,
        }
    }
}

/// What the supervisor is to do.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Run these, in this order where there is a choice.
    Run { worker: WorkerId, tasks: Vec<RunTask> },
    /// Stop these, also if they have started; each is still answered with a completion or as retracted.
    Cancel { worker: WorkerId, tasks: Vec<TaskId> },
    /// Send these held values; each is answered with [`Scheduler::exported`].
    Fetch { worker: WorkerId, tasks: Vec<TaskId> },
    /// Keep these values until told to drop them: tasks will name them as [`Input::Shared`].
    Share { worker: WorkerId, values: Vec<SharedPayload> },
    /// Forget these held or shared values, as far as they are there.
    Drop { worker: WorkerId, tasks: Vec<TaskId> },
    /// Give back those of these that have not started; answered with [`Scheduler::retracted`], also if none.
    Retract { worker: WorkerId, tasks: Vec<TaskId> },
    /// End this worker now.
    Kill { worker: WorkerId, cause: DeathCause },
    /// This worker has nothing left that anybody needs: end it in order.
    Retire { worker: WorkerId },
    /// What a session is told about its outputs, in order.
    Deliver { session: SessionId, deliveries: Vec<Delivery> },
}

/// One task to run, with everything the worker needs for it.
#[derive(Clone, Debug)]
pub(crate) struct RunTask {
    pub(crate) id: TaskId,
    pub(crate) spec: Arc<JobSpec>,
    /// To be repeated in the completion. A task has one run in flight at most.
    pub(crate) attempt: u16,
    /// Somebody waits for the value: send it in full with the completion.
    pub(crate) deliver: bool,
    /// A worker ran out of memory under it: this one is to give it all it has.
    pub(crate) alone: bool,
    /// It may have ended a worker before: word of what ran before it is to be sent before it begins, and of its own end at
    /// once.
    pub(crate) suspect: bool,
    /// It is to start before those in the worker's queue that have a higher rank.
    pub(crate) rank: Rank,
    /// Of a task whose result is taken apart, the parts that are wanted. There is one at least.
    pub(crate) parts: Vec<WantedPart>,
    /// In the order of the task's dependencies.
    pub(crate) inputs: Vec<Input>,
}

#[cfg(test)]
impl crate::fairness::Queued for RunTask {
    fn rank(&self) -> Rank {
        self.rank
    }
}

/// The state of everything that was submitted, and of the workers.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    config: Config,
    /// The latest time that a caller gave.
    now: Duration,
    jobs: Jobs,
    workers: Workers,
    ready: ReadyLanes,
    /// The workers that can exist; none until `set_fleet`.
    fleet: Option<Vec<WorkerSpec>>,
    result_sizes: estimates::ResultSizes,
    run_times: estimates::RunTimes,
    sending_rate: estimates::SendingRate,
    /// No task runs anywhere, except those that wait for others. Set before tasks are placed, cleared by the first one.
    calm: bool,
    /// Since when that is so although tasks are ready.
    stuck_since: Option<Duration>,
    /// A task of a task waits for resources that only tasks have which wait for tasks of their own: since when.
    held_up_since: Option<Duration>,
    deliveries: Vec<Delivery>,
    /// Tasks that are to run again since they failed, with the numbers of their next attempts.
    retried: Vec<(TaskId, u16)>,
    /// A task that may have ended a worker was the last one to be sent.
    suspect_was_last: bool,
    /// While tasks are placed: all others have been looked at.
    others_had_their_turn: bool,
    /// While tasks are placed: the same as in `held_up_since`.
    held_up: bool,
    /// A task runs that no other is to run beside, in any worker. Set before tasks are placed.
    exclusive: bool,
    /// Tasks that lost their last use.
    work: Vec<TaskRef>,
    /// Tasks whose value is needed but neither there nor on its way.
    restart: Vec<TaskRef>,
    /// Scratch for placement.
    heads: placement::Heads,
    /// Tasks of which an input failed, and another one has ended since.
    verdicts: Vec<TaskRef>,
    /// Jobs that may have become unneeded, by slot.
    leaving: Vec<u32>,
    /// Tasks that use results of other jobs, and may be sent ahead of these.
    pipelined: Vec<TaskRef>,
    /// Programs that have left, of whose graphs so many are needed all the same.
    departed: Vec<(Program, usize)>,
    next_seq: u64,
    /// Messages about runs and transfers that nobody waits for.
    stale: u64,
}

impl Scheduler {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Decides what runs where, and hands over all commands that are due. To be called after each batch of events.
    pub(crate) fn dispatch(&mut self, now: Duration, out: &mut Vec<Command>) {
        self.now = self.now.max(now);
        self.sending_rate.learn(self.now);
        self.settle();
        self.place_all();
        self.send_pipelined();
        self.balance();
        self.wind_down();
        self.flush(out);
    }

    /// Tasks that are to run again since they failed, with the numbers of their next attempts, each told once.
    pub(crate) fn take_retried(&mut self) -> Vec<(TaskId, u16)> {
        std::mem::take(&mut self.retried)
    }

    /// Whether nothing is known of any job.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    fn flush(&mut self, out: &mut Vec<Command>) {
        let (now, grace) = (self.now, self.config.cancel_grace);
        for worker in self.workers.iter_mut() {
            worker.start_grace(now, grace);
            worker.flush(out);
        }
        let deliveries = std::mem::take(&mut self.deliveries);
        // Mostly they are all for one session.
        if let Some(session) = deliveries.first().map(|d| d.job.session)
            && deliveries.iter().all(|d| d.job.session == session)
        {
            return out.push(Command::Deliver { session, deliveries });
        }
        let mut deliveries = deliveries.into_iter().peekable();
        while let Some(first) = deliveries.next() {
            let session = first.job.session;
            let mut batch = vec![first];
            while let Some(next) = deliveries.next_if(|d| d.job.session == session) {
                batch.push(next);
            }
            out.push(Command::Deliver { session, deliveries: batch });
        }
    }
}
