//! What the core has done by others, done: with processes, sockets, timers of the event loop, and the clock.

use super::actor::Supervisor;
use super::connection::Connection;
use super::effects::{Effects, GaugeValues, Timer, WorkerPage};
use super::messages::{PreparedJob, ReturnSegments, SessionMessage};
use super::shared_core::SharedCore;
use super::worker_link::WorkerLink;
use super::{Executable, SharedMemory};
use crate::error::{Error, OutputStream, Result};
use crate::events::EventKind;
use crate::events::journal::Step;
use crate::events::lines::LineCutter;
use crate::events::programs::News;
use crate::events::sources::RingOwner;
use crate::host::{self, Hosted, report};
use crate::ids::{Attempt, JobId, SessionId, TaskId, WorkerId};
use crate::ipc::captured::OutputChunk;
use crate::ipc::clock::{monotonic_ms, wall_clock};
use crate::ipc::frame::{Decoder, MAX_FRAME};
use crate::ipc::page::{ControlPage, PageError};
use crate::ipc::process_tree::{kill_group, undo};
use crate::ipc::ring::{RingRecord, RunSource};
use crate::ipc::segment::{Attachments, FileId, SegmentId};
use crate::ipc::start;
use crate::job::JobSpec;
use crate::machine::AvailableMemory;
use crate::memory::family::Family;
use crate::memory::oom::{Killer, Verdict};
use crate::memory::process::Statm;
use crate::message::{Malformed, ToSession, ToWorker};
use crate::remote::Remote;
use crate::scheduler::{Prepared, SubmitError};
use crate::settings::{INNER_POOLS, Settings, StartMethod};
use crate::task::call::guarded;
use actix::prelude::*;
use rustc_hash::FxHashMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Connections to workers on which something waits to be sent.
pub(crate) type PendingSends = smallvec::SmallVec<[(WorkerId, Arc<Connection>); 2]>;

/// Where messages to the client in this process go.
pub(crate) type Outgoing = Vec<(Weak<Remote>, ToSession)>;

pub(crate) struct LiveEffects {
    start: StartOptions,
    pub(super) shared: SharedMemory,
    pub(super) attachments: Attachments,
    workers: FxHashMap<WorkerId, LiveWorker>,
    /// The client in this process.
    client: Option<Weak<Remote>>,
    /// The actors that own the sockets of attached programs.
    links: FxHashMap<SessionId, Recipient<SessionMessage>>,
    /// What the client in this process is to be told.
    outgoing: Outgoing,
    pending: PendingSends,
    /// Lines of workers that have no end yet, for a recording.
    cutters: FxHashMap<WorkerId, (String, LineCutter)>,
    /// What the kernel does when memory runs out.
    killer: Killer,
    /// What only the actor can do.
    timers: Vec<(Duration, Timer)>,
    stopping: bool,
    /// The actor, once there is one: the workers' links need its event loop.
    supervisor: Option<Addr<Supervisor>>,
    shared_core: Weak<SharedCore>,
    _hosted: Hosted,
}

/// How workers are started.
struct StartOptions {
    executable: Executable,
    env: Vec<(String, String)>,
    directory: Option<PathBuf>,
    method: StartMethod,
    /// How many there are, for all workers.
    cores: usize,
    /// Task runs that each worker records.
    events: usize,
}

/// The supervisor's ends of what it has in common with a worker.
pub(super) struct LiveWorker {
    pid: u32,
    pub(super) connection: Arc<Connection>,
    pub(super) decoder: Decoder,
    page: Arc<ControlPage>,
    ring_owner: Option<RingOwner>,
    /// What the kernel says of its memory.
    statm: Statm,
    family: Family,
    /// Until its link takes it.
    child: Option<Child>,
}

impl LiveEffects {
    pub(crate) fn new(settings: &Settings, executable: Executable, shared: SharedMemory) -> Self {
        let attachments = Attachments::passing_on();
        shared.pool.joins(&attachments);
        Self {
            start: StartOptions {
                executable,
                env: settings.env.clone(),
                directory: settings.directory.clone(),
                method: settings.start_method,
                cores: settings.machine.cores,
                events: settings.events,
            },
            shared,
            attachments,
            workers: FxHashMap::default(),
            cutters: FxHashMap::default(),
            client: None,
            links: FxHashMap::default(),
            outgoing: Vec::new(),
            pending: PendingSends::new(),
            killer: Killer::new(),
            timers: Vec::new(),
            stopping: false,
            supervisor: None,
            shared_core: Weak::new(),
            _hosted: Hosted::begin(),
        }
    }

    pub(super) fn belongs_to(&mut self, shared_core: &Arc<SharedCore>) {
        self.shared_core = Arc::downgrade(shared_core);
    }

    /// The actor takes over: the workers' links need its event loop.
    pub(super) fn begin(&mut self, supervisor: Addr<Supervisor>) {
        let actor = supervisor.clone();
        self.attachments.set_notifier(Box::new(move || actor.do_send(ReturnSegments)));
        self.supervisor = Some(supervisor);
        let workers: Vec<_> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.link(worker));
    }

    /// Has an actor own the process and the connection of a worker, if there is an event loop for it.
    fn link(&mut self, id: WorkerId) {
        let (Some(worker), Some(supervisor)) = (self.workers.get_mut(&id), &self.supervisor) else { return };
        let Some(child) = worker.child.take() else { return };
        let link = WorkerLink {
            worker: id,
            connection: Arc::clone(&worker.connection),
            child: Some(child),
            shared_core: self.shared_core.clone(),
            supervisor: supervisor.clone(),
            page: Arc::clone(&worker.page),
        };
        link.start();
    }

    /// Ends the workers that have been started, none of which has been told anything yet.
    pub(super) fn undo_start(&mut self) {
        for mut worker in std::mem::take(&mut self.workers).into_values() {
            if let Some(child) = &mut worker.child {
                undo(child);
            }
        }
        self.unlink_pages();
    }

    pub(super) fn unlink_pages(&self) {
        self.shared.pages.unlink_all();
    }

    pub(super) fn open_client(&mut self, client: &Arc<Remote>) {
        self.client = Some(Arc::downgrade(client));
    }

    pub(super) fn open_link(&mut self, session: SessionId, link: Recipient<SessionMessage>) {
        self.links.insert(session, link);
    }

    pub(super) fn worker_mut(&mut self, worker: WorkerId) -> Option<&mut LiveWorker> {
        self.workers.get_mut(&worker)
    }

    pub(super) fn has_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    pub(super) fn take_pending(&mut self) -> PendingSends {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(super) fn take_outgoing(&mut self) -> Outgoing {
        std::mem::take(&mut self.outgoing)
    }

    pub(super) fn take_timers(&mut self) -> Vec<(Duration, Timer)> {
        std::mem::take(&mut self.timers)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Kills all workers and tells all sessions that nothing will come any more: the core has panicked.
    pub(super) fn break_off(&mut self, reason: &str) {
        let workers: Vec<_> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.kill(worker));
        for link in std::mem::take(&mut self.links).into_values() {
            let message = ToSession::Closed { reason: reason.to_string(), unstarted: false };
            link.do_send(SessionMessage(message));
        }
        self.close_client(reason.to_string());
        self.timers.clear();
        self.stopping = self.workers.is_empty();
    }

    /// Tells the client in this process, if there is one, that nothing will come any more.
    pub(super) fn close_client(&mut self, reason: String) {
        if let Some(client) = &self.client {
            self.outgoing.push((client.clone(), ToSession::Closed { reason, unstarted: false }));
        }
    }

    fn new_page(&self, worker: WorkerId) -> Result<ControlPage> {
        let name = self.shared.pages.sibling(worker.0 + 1);
        let page = match ControlPage::create(&name, self.start.events) {
            // A worker that cannot be told about is better than none.
            Err(e @ (PageError::NoSpace(_) | PageError::FileSize(_))) => {
                report!(Warn, "a worker starts without a record of its task runs: {e}");
                ControlPage::create(&name, 0)
            }
            page => page,
        };
        page.map_err(|e| Error::Resource {
            resource: "shared memory for a control page".to_string(),
            reason: e.to_string(),
        })
    }
}

/// What says to libraries with threads of their own how many they may have: a worker's share of the cores, where the program's
/// environment does not say it.
fn inner_threads(cores: usize, workers: usize) -> impl Iterator<Item = (&'static str, String)> {
    let share = (cores / workers.max(1)).max(1).to_string();
    let unset = INNER_POOLS.into_iter().filter(|name| std::env::var_os(name).is_none());
    unset.map(move |name| (name, share.clone()))
}

impl Effects for LiveEffects {
    type Page = ControlPage;

    fn prepare(&mut self, job: JobId, spec: JobSpec) -> Option<std::result::Result<Prepared, SubmitError>> {
        let spec = Arc::new(spec);
        let prepare = move |spec| {
            guarded(|| Ok(Prepared::new(job, spec)))
                .unwrap_or_else(|fault| Err(SubmitError::Malformed(fault.to_string())))
        };
        if let Some(supervisor) = self.supervisor.clone() {
            let spec = Arc::clone(&spec);
            let body = move || supervisor.do_send(PreparedJob { job, prepared: prepare(spec) });
            match std::thread::Builder::new().name("swath-intake".to_string()).spawn(body) {
                Ok(_) => return None,
                Err(e) => report!(Warn, "no thread to prepare a large graph with: {e}; others wait for it"),
            }
        }
        Some(prepare(spec))
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_clock(&self) -> u64 {
        wall_clock()
    }

    fn spawn(&mut self, id: WorkerId, of: usize) -> Result<u32> {
        let page = self.new_page(id)?;
        let program = match &self.start.executable {
            Executable::Own => "/proc/self/exe".to_string(),
            Executable::Of(fd) => format!("/proc/self/fd/{}", start::number(fd)),
        };
        let mut command = std::process::Command::new(program);
        command
            .arg0("swath-worker")
            .envs(inner_threads(self.start.cores, of))
            .envs(self.start.env.iter().map(|(n, v)| (n, v)));
        if let Some(dir) = &self.start.directory {
            command.current_dir(dir);
        }
        let automatic = self.start.method == StartMethod::Automatic;
        let (mut child, socket) = start::spawn(&mut command, page.name(), automatic).map_err(|e| not_started(&e))?;
        let connection = Connection::new(socket).map_err(|e| {
            undo(&mut child);
            Error::Spawn { reason: format!("its socket is of no use: {e}") }
        })?;
        let pid = child.id();
        let worker = LiveWorker {
            pid,
            connection,
            decoder: Decoder::new(MAX_FRAME),
            page: Arc::new(page),
            ring_owner: None,
            statm: Statm::of(pid),
            family: Family::of(pid),
            child: Some(child),
        };
        self.workers.insert(id, worker);
        self.link(id);
        Ok(pid)
    }

    fn kill(&mut self, worker: WorkerId) {
        if let Some(worker) = self.workers.get(&worker) {
            kill_group(worker.pid);
        }
    }

    fn forget(&mut self, worker: WorkerId) -> Option<Arc<ControlPage>> {
        if let Some((name, mut cutter)) = self.cutters.remove(&worker) {
            cutter.end(&name, wall_clock(), |line| self.shared.sources.lines.push(line));
        }
        let worker = self.workers.remove(&worker)?;
        self.shared.ledger.forgive(&worker.page);
        Some(worker.page)
    }

    fn send(&mut self, id: WorkerId, message: &ToWorker) -> std::result::Result<(), Malformed> {
        let Some(worker) = self.workers.get(&id) else { return Ok(()) };
        if worker.connection.push(message)? {
            self.pending.push((id, Arc::clone(&worker.connection)));
        }
        if let ToWorker::FilesEnded(files) = message {
            worker.connection.forget(files);
        }
        Ok(())
    }

    fn notify(&mut self, session: SessionId, message: ToSession) {
        if session == SessionId::CLIENT {
            if let Some(client) = &self.client {
                self.outgoing.push((client.clone(), message));
            }
        } else if let Some(link) = self.links.get(&session) {
            link.do_send(SessionMessage(message));
        }
    }

    fn close(&mut self, session: SessionId) {
        if session == SessionId::CLIENT {
            self.client = None;
        } else {
            self.links.remove(&session);
        }
    }

    fn noted(&mut self, worker: Option<WorkerId>, step: &Step) {
        if let (EventKind::WorkerStarted { worker: name, .. }, Some(id)) = (&step.kind, worker)
            && let Some(worker) = self.workers.get_mut(&id)
        {
            let page = Arc::clone(&worker.page) as Arc<dyn RunSource>;
            worker.ring_owner = Some(self.shared.sources.add(name, &page));
        }
        self.shared.sources.note(step.clone());
    }

    fn takes_news(&self) -> bool {
        self.shared.sources.program.is_on()
    }

    fn tell(&mut self, news: News) {
        self.shared.sources.program.note(news);
    }

    fn printed(&mut self, worker: WorkerId, name: &str, stream: OutputStream, tasks: &[String], bytes: &[u8]) {
        let lines = &self.shared.sources.lines;
        if lines.is_on() {
            let (_, cutter) = self.cutters.entry(worker).or_insert_with(|| (name.to_string(), LineCutter::default()));
            cutter.cut(name, stream, tasks, bytes, wall_clock(), |line| lines.push(line));
        }
    }

    fn page(&self, worker: WorkerId) -> Option<&ControlPage> {
        self.workers.get(&worker).map(|worker| &*worker.page)
    }

    fn private_memory(&self, worker: WorkerId) -> Option<u64> {
        self.workers.get(&worker)?.statm.private()
    }

    fn family_memory(&mut self, worker: WorkerId, own: u64, suspicious: u64) -> u64 {
        self.workers.get_mut(&worker).map_or(own, |worker| worker.family.private(own, suspicious))
    }

    fn is_stopped(&self, worker: WorkerId) -> bool {
        let Some(worker) = self.workers.get(&worker) else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid));
        stat.is_ok_and(|s| s.rsplit(") ").next().is_some_and(|s| s.starts_with('T')))
    }

    fn poll_machine(&mut self) {
        self.killer.poll();
    }

    fn verdict(&mut self) -> (Verdict, Option<AvailableMemory>) {
        (self.killer.verdict(), self.killer.available())
    }

    fn shared_memory(&self) -> (u64, u64) {
        (self.shared.ledger.used(), self.shared.ledger.limit())
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
        self.shared.names.take(name)
    }

    fn free_name(&mut self, name: &str) {
        self.shared.names.free(name);
    }

    fn name_elsewhere(&self, name: &str) -> Option<String> {
        self.shared.names.elsewhere(name)
    }

    fn print(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8]) {
        let pause = host::forward(stderr, bytes);
        if !pause.is_zero()
            && let Some(worker) = self.workers.get(&worker)
        {
            worker.page.pause_output(monotonic_ms() + pause.as_millis() as u64);
        }
    }

    fn call_later(&mut self, after: Duration, what: Timer) {
        self.timers.push((after, what));
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}

impl WorkerPage for ControlPage {
    fn silence(&self) -> Duration {
        Duration::from_millis(monotonic_ms().saturating_sub(self.heartbeat()))
    }

    fn running(&self) -> Vec<TaskId> {
        ControlPage::running(self)
    }

    fn has_begun(&self) -> bool {
        ControlPage::has_begun(self)
    }

    fn begun(&self) -> Vec<Attempt> {
        ControlPage::begun(self)
    }

    fn results(&self) -> Vec<TaskId> {
        ControlPage::results(self)
    }

    fn reason(&self) -> Option<String> {
        ControlPage::reason(self)
    }

    fn is_robbed(&self) -> bool {
        ControlPage::is_robbed(self)
    }

    fn peaks(&self) -> Vec<(TaskId, u64)> {
        ControlPage::peaks(self)
    }

    fn progress(&self) -> Vec<(TaskId, u32)> {
        ControlPage::progress(self)
    }

    fn samples(&self) -> Vec<u64> {
        ControlPage::samples(self)
    }

    fn last_log(&self) -> Vec<u8> {
        ControlPage::last_log(self)
    }

    fn left_output(&self) -> Option<OutputChunk> {
        self.captured().left()
    }

    fn segment_bytes(&self) -> u64 {
        ControlPage::segment_bytes(self)
    }

    fn gauges(&self) -> GaugeValues {
        let gauges = ControlPage::gauges(self);
        GaugeValues {
            managed: gauges.managed(),
            spilled: gauges.spilled(),
            segments: gauges.segments(),
            moved: gauges.moved(),
            pauses: gauges.pauses(),
            waits: gauges.waits(),
            disk_fails: gauges.disk_fails(),
        }
    }

    fn latest_run(&self, task: TaskId) -> Option<RingRecord> {
        self.ring().latest(task)
    }

    fn runs(&self) -> Vec<RingRecord> {
        self.ring().read()
    }

    fn recent(&self, most: usize, see: &mut dyn FnMut(RingRecord)) {
        self.ring().recent(most, see);
    }
}

/// Why there is no process.
fn not_started(e: &std::io::Error) -> Error {
    match e.raw_os_error() {
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => Error::Resource {
            resource: "file descriptors".to_string(),
            reason: format!("a worker process cannot be started: {e}; raise the limit with `ulimit -n`"),
        },
        Some(nix::libc::EAGAIN) => Error::Resource {
            resource: "processes".to_string(),
            reason: format!("a worker process cannot be started: {e}; raise the limit with `ulimit -u`"),
        },
        Some(nix::libc::ENOMEM) => Error::Resource {
            resource: "memory".to_string(),
            reason: format!("a worker process cannot be started: {e}"),
        },
        _ => Error::Spawn { reason: e.to_string() },
    }
}
