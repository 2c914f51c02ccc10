//! What the core has done by others, played: workers, sockets, timers and the clock of the simulation.

use super::worker::{SimPage, SimWorker, Start};
use crate::error::{DeathCause, Error, Result};
use crate::ids::{JobId, SessionId, WorkerId};
use crate::ipc::frame::Frame;
use crate::ipc::page::ControlPage;
use crate::ipc::segment::listing::Shown;
use crate::ipc::segment::{Attachments, FileId, Segment, SegmentId};
use crate::job::JobSpec;
use crate::machine::{AvailableMemory, Bound};
use crate::memory::oom::Verdict;
use crate::message::{self, Malformed, ToSession, ToWorker};
use crate::scheduler::{Prepared, SubmitError};
use crate::supervisor::effects::{Effects, Timer};
use fastrand::Rng;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time of the simulation, which all of it sees.
pub(super) type Clock = Rc<Cell<Duration>>;

/// A message on its way to a session.
pub(super) enum Mail {
    /// In the same process.
    Local(ToSession),
    Frame(Frame),
}

pub(super) struct SimEffects {
    pub(super) rng: Rng,
    pub(super) clock: Clock,
    began: Instant,
    pub(super) workers: BTreeMap<WorkerId, SimWorker>,
    pub(super) attachments: Attachments,
    /// Segments have been released since the actor has last returned any.
    pub(super) released: Arc<AtomicBool>,
    pub(super) timers: Vec<(Duration, Timer)>,
    pub(super) mail: BTreeMap<SessionId, VecDeque<Mail>>,
    /// What each attached session has been shown.
    shown: BTreeMap<SessionId, Shown>,
    /// Only the actor starts processes, sets timers and stops.
    pub(super) in_actor: bool,
    pub(super) stopped: bool,
    /// Of a hundred starts, so many fail, one way or another.
    pub(super) bad_starts: u32,
    /// Workers that are killed now are so for no fault of their tasks.
    pub(super) blameless: bool,
    /// The next message cannot be put into a frame.
    pub(super) next_is_too_large: bool,
    pub(super) threads: usize,
    /// How often no process could be started.
    pub(super) failed_starts: u32,
    /// Large graphs that another thread prepares.
    pub(super) preparing: Vec<(JobId, JobSpec)>,
    /// Names of published results.
    pub(super) names: BTreeSet<String>,
}

impl SimEffects {
    pub(super) fn new(rng: Rng, threads: usize) -> Self {
        let (attachments, released) = (Attachments::passing_on(), Arc::new(AtomicBool::new(false)));
        let notified = Arc::clone(&released);
        attachments.set_notifier(Box::new(move || notified.store(true, Ordering::Relaxed)));
        Self {
            rng,
            clock: Clock::default(),
            began: Instant::now(),
            workers: BTreeMap::new(),
            attachments,
            released,
            timers: Vec::new(),
            mail: BTreeMap::new(),
            shown: BTreeMap::new(),
            in_actor: true,
            stopped: false,
            bad_starts: 0,
            blameless: false,
            next_is_too_large: false,
            threads,
            failed_starts: 0,
            preparing: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    /// Slots that are to be filled later.
    pub(super) fn pauses(&self) -> usize {
        self.timers.iter().filter(|(_, timer)| matches!(timer, Timer::Refill(_))).count()
    }

    /// The timer that is due first.
    pub(super) fn next_timer(&self) -> Option<usize> {
        (0..self.timers.len()).min_by_key(|&at| self.timers[at].0)
    }
}

/// A message as it arrives, with the descriptors that go along, where the receiver has been shown `shown`.
pub(super) fn frame(shown: &mut Shown, mut body: Vec<u8>, segments: &[Arc<Segment>]) -> Frame {
    let files = shown.append(&mut body, segments);
    let fds = files.iter().map(|file| file.fd().unwrap().try_clone_to_owned().unwrap()).collect();
    Frame { kind: message::KIND, body, fds }
}

impl Effects for SimEffects {
    type Page = SimPage;

    fn now(&self) -> Instant {
        self.began + self.clock.get()
    }

    fn wall_clock(&self) -> u64 {
        self.clock.get().as_nanos() as u64
    }

    fn prepare(&mut self, job: JobId, spec: JobSpec) -> Option<std::result::Result<Prepared, SubmitError>> {
        if self.rng.u8(0..4) == 0 {
            return Some(Prepared::new(job, spec.into()));
        }
        self.preparing.push((job, spec));
        None
    }

    fn spawn(&mut self, worker: WorkerId, _: usize) -> Result<u32> {
        assert!(self.in_actor, "a process is started by a thread that may end before it");
        let bad = self.rng.u32(0..100) < self.bad_starts;
        let start = match self.rng.u8(0..7) {
            _ if !bad => Start::Good,
            0 => {
                self.failed_starts += 1;
                return Err(Error::Spawn { reason: "there is no process left".to_string() });
            }
            1 => Start::Silent,
            2 => Start::OldVersion,
            3 => Start::Rude,
            4 => Start::NotSetUp,
            _ => Start::Dies,
        };
        let before = self.workers.insert(worker, SimWorker::new(worker, start, self.threads, Rc::clone(&self.clock)));
        assert!(before.is_none(), "{worker:?} was started before");
        Ok(1000 + worker.0)
    }

    fn kill(&mut self, worker: WorkerId) {
        let worker = self.workers.get_mut(&worker).expect("a worker that is killed is there");
        worker.die(DeathCause::Signal(9));
        worker.blameless |= self.blameless;
    }

    fn forget(&mut self, worker: WorkerId) -> Option<Arc<ControlPage>> {
        let worker = self.workers.remove(&worker).expect("a worker that is forgotten was there");
        assert!(worker.ended.is_some(), "{:?} is forgotten while it runs", worker.id);
        None
    }

    fn send(&mut self, worker: WorkerId, message: &ToWorker) -> std::result::Result<(), Malformed> {
        if std::mem::take(&mut self.next_is_too_large) {
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.blameless = true;
            }
            return Err(Malformed("it is too large".to_string()));
        }
        let (body, segments) = message::encode(message)?;
        if let Some(worker) = self.workers.get_mut(&worker).filter(|worker| worker.ended.is_none()) {
            worker.inbox.push_back(frame(&mut worker.shown, body, &segments));
        }
        Ok(())
    }

    fn notify(&mut self, session: SessionId, message: ToSession) {
        let Some(mail) = self.mail.get_mut(&session) else { return };
        if session == SessionId::CLIENT {
            return mail.push_back(Mail::Local(message));
        }
        let (body, segments) = message::encode(&message).expect("a message to a session fits into a frame");
        let shown = self.shown.entry(session).or_default();
        mail.push_back(Mail::Frame(frame(shown, body, &segments)));
    }

    fn close(&mut self, session: SessionId) {
        self.mail.remove(&session);
    }

    fn page(&self, worker: WorkerId) -> Option<&SimPage> {
        self.workers.get(&worker).map(|worker| &worker.page)
    }

    fn private_memory(&self, worker: WorkerId) -> Option<u64> {
        self.workers.get(&worker).filter(|worker| worker.ended.is_none()).map(|worker| worker.private)
    }

    fn family_memory(&mut self, _: WorkerId, own: u64, _: u64) -> u64 {
        own
    }

    fn is_stopped(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(SimWorker::is_stopped)
    }

    fn poll_machine(&mut self) {}

    fn verdict(&mut self) -> (Verdict, Option<AvailableMemory>) {
        let available = AvailableMemory { bytes: 1, of: 2, bound: Bound::Machine };
        (self.rng.choice([Verdict::Kernel, Verdict::SomebodyElse, Verdict::Unknown]).unwrap(), Some(available))
    }

    fn shared_memory(&self) -> (u64, u64) {
        (0, 1 << 30)
    }

    fn owner_ended(&mut self, owner: u32) -> Vec<FileId> {
        self.attachments.end_owner(owner)
    }

    fn files_ended(&mut self, files: &[FileId]) {
        self.attachments.end_files(files);
    }

    fn take_released(&mut self) -> Vec<(SegmentId, u32)> {
        self.attachments.take_released()
    }

    fn take_name(&mut self, name: &str) -> std::result::Result<(), String> {
        assert!(self.names.insert(name.to_string()), "{name} is taken already");
        Ok(())
    }

    fn free_name(&mut self, name: &str) {
        assert!(self.names.remove(name), "{name} is not taken");
    }

    fn name_elsewhere(&self, _: &str) -> Option<String> {
        None
    }

    fn print(&mut self, _: WorkerId, _: bool, _: &[u8]) {}

    fn call_later(&mut self, after: Duration, what: Timer) {
        assert!(self.in_actor, "a timer is set by a thread that has no event loop");
        self.timers.push((self.clock.get() + after, what));
    }

    fn stop(&mut self) {
        assert!(self.in_actor, "only the actor stops");
        assert!(self.workers.is_empty(), "the actor stops, and leaves {:?}", self.workers.keys());
        self.stopped = true;
    }
}
