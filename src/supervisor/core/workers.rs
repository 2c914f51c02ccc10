//! The processes: started, welcomed, ended, replaced.

use super::Borrower;
use super::Core;
use super::DEATHS;
use super::Error;
use super::Executable;
use super::Phase;
use super::Result;
use super::Spawned;
use super::Supervisor;
use super::WorkerProcess;
use super::owner_of;
use super::session_of;
use crate::error::DeathCause;
use crate::events::journal::LifeStep;
use crate::ids::WorkerId;
use crate::ipc::clock;
use crate::ipc::frame::{Decoder, MAX_FRAME};
use crate::ipc::page::{ControlPage, PageError};
use crate::ipc::start;
use crate::memory::leak::Floor;
use crate::memory::process::Statm;
use crate::message::{ToSession, ToWorker, Welcome};
use crate::settings::RestartPolicy;
use crate::settings::StartMethod;
use crate::supervisor::connection::Connection;
use crate::supervisor::recent_lines::RecentLines;
use crate::supervisor::worker_link::WorkerLink;
use crate::supervisor::worker_slot::WorkerSlot;
use crate::task::image::BuildId;
use crate::version::VERSION;
use actix::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Core {
    /// Starts one worker process.
    pub(super) fn spawn(&mut self) -> Result<Spawned> {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let name = self.shared.pages.sibling(id.0 + 1);
        let page = match ControlPage::create(&name, self.settings.events) {
            // A worker that cannot be told about is better than none.
            Err(PageError::NoSpace(size)) => {
                log::warn!("/dev/shm has not {size} bytes left: a worker starts without a record of its task runs");
                ControlPage::create(&name, 0)
            }
            page => page,
        };
        let page = page.map_err(|e| Error::Resource {
            resource: "shared memory for a control page".to_string(),
            reason: e.to_string(),
        })?;
        let program = match &self.executable {
            Executable::Own => "/proc/self/exe".to_string(),
            Executable::Of(fd) => format!("/proc/self/fd/{}", start::number(fd)),
        };
        let mut command = std::process::Command::new(program);
        command.arg0("swath-worker").envs(self.settings.env.iter().map(|(n, v)| (n, v)));
        if let Some(dir) = &self.settings.directory {
            command.current_dir(dir);
        }
        let (child, socket) =
            start::spawn(&mut command, page.name(), self.settings.start_method == StartMethod::Automatic).map_err(
                |e| match e.raw_os_error() {
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
                },
            )?;
        Ok(Spawned { child, socket, page: Arc::new(page), id })
    }

    /// Fills a place with a process.
    pub(super) fn connect(&mut self, slot: usize, spawned: Spawned, ctx: &mut Context<Supervisor>) {
        let Spawned { mut child, socket, page, id } = spawned;
        let pid = child.id();
        let connection = match Connection::new(socket) {
            Ok(connection) => connection,
            Err(e) => {
                log::error!("a worker's socket is of no use: {e}");
                let _ = child.kill();
                let _ = child.wait();
                self.start_failed(&format!("its socket is of no use: {e}"));
                return self.refill_later(slot, Duration::from_secs(1), ctx);
            }
        };
        self.slots[slot].begin(id, Instant::now());
        log::debug!("{} started as process {pid}", self.slots[slot].name);
        self.note(slot, pid, LifeStep::Started);
        let link = WorkerLink {
            worker: id,
            connection: Arc::clone(&connection),
            child: Some(child),
            shared_core: self.shared_core.clone(),
            supervisor: ctx.address(),
            page: Arc::clone(&page),
        };
        link.start();
        let phase = Phase::Starting(Instant::now());
        let process = WorkerProcess {
            slot,
            pid,
            connection,
            decoder: Decoder::new(MAX_FRAME),
            page,
            phase,
            owing: None,
            ended: None,
            blame: true,
            statm: Statm::of(pid),
            said: 0,
            speaking: false,
            told: 0,
            done: 0,
            unmanaged: Floor::default(),
            recycling: false,
        };
        self.workers.insert(id, process);
    }

    pub(super) fn refill_later(&mut self, slot: usize, pause: Duration, ctx: &mut Context<Supervisor>) {
        if pause.is_zero() {
            return self.refill(slot, ctx);
        }
        ctx.run_later(pause, move |supervisor, ctx| supervisor.with(ctx, |core, ctx| core.refill(slot, ctx)));
    }

    pub(super) fn refill(&mut self, slot: usize, ctx: &mut Context<Supervisor>) {
        let filled = self.slots[slot].closing || self.slots[slot].worker.is_some();
        if self.stopping.is_some() || self.given_up || filled {
            return;
        }
        match self.spawn() {
            Ok(spawned) => self.connect(slot, spawned, ctx),
            Err(e) => {
                log::error!("{} cannot be started again: {e}; trying again", self.slots[slot].name);
                self.start_failed(&format!("{} cannot be started: {e}", self.slots[slot].name));
                self.refill_later(slot, Duration::from_secs(1), ctx);
            }
        }
    }

    /// Fills the places that have no worker and should have one, also when that has been given up.
    pub(super) fn refill_open(&mut self, ctx: &mut Context<Supervisor>) {
        self.try_again();
        for slot in 0..self.slots.len() {
            self.refill(slot, ctx);
        }
    }

    pub(super) fn welcome(
        &mut self,
        worker: WorkerId,
        version: u64,
        build: &BuildId,
    ) -> std::result::Result<(), String> {
        if version != VERSION {
            return Err(format!("it speaks protocol {version:016x}, not {VERSION:016x}"));
        }
        if *build != self.build {
            return Err("it is another build of the program".to_string());
        }
        let dead = |w: &WorkerId| !self.workers.contains_key(w);
        let gone = (0..self.next_worker).map(WorkerId).filter(dead).map(owner_of).collect();
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        process.phase = Phase::Ready;
        let slot = process.slot;
        let welcome = Welcome {
            id: worker,
            name: self.slots[slot].name.clone(),
            owner: owner_of(worker),
            threads: self.settings.threads,
            memory_limit: self.settings.memory_limit,
            thresholds: self.settings.thresholds,
            spill_directory: self.settings.spill_directory.clone(),
            supervisor_page: self.shared.page.name().clone(),
            own_page: process.page.name().clone(),
            session: session_of(worker),
            counter: clock::uses_counter(),
            stranger: !matches!(self.executable, Executable::Own),
            gone,
        };
        let pid = process.pid;
        self.note(slot, pid, LifeStep::Ready);
        self.send(worker, &ToWorker::Welcome(welcome));
        self.scheduler.worker_joined(worker, self.spec(slot));
        if self.slots[slot].closing {
            self.scheduler.worker_retiring(worker);
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, id: WorkerId, cause: DeathCause, blame: bool) {
        let Some(process) = self.workers.get_mut(&id) else { return };
        process.ended.get_or_insert(cause);
        process.blame &= blame;
        if let Err(e) = kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL) {
            log::warn!("process {} cannot be killed: {e}", process.pid);
        }
    }

    /// Opens or closes places until there are `n`.
    pub(in crate::supervisor) fn scale(&mut self, n: usize) {
        for slot in &mut self.slots[..] {
            slot.closing = false;
        }
        while self.slots.len() < n {
            self.slots.push(WorkerSlot::new(self.slots.len(), Vec::new()));
            self.recent_lines.push(RecentLines::default());
            self.past_runs.push(Vec::new());
        }
        for slot in &mut self.slots[n..] {
            slot.closing = true;
            if let Some(process) = slot.worker {
                self.scheduler.worker_retiring(process);
            }
        }
        self.settings.workers = n;
        self.announce_fleet();
        self.to_fill = true;
    }

    /// Replaces all workers.
    pub(in crate::supervisor) fn restart(&mut self) {
        let workers: Vec<_> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false));
        self.to_fill = true;
    }

    /// The process of a worker has ended.
    pub(in crate::supervisor) fn ended(&mut self, worker: WorkerId, cause: DeathCause, ctx: &mut Context<Supervisor>) {
        let Some(process) = self.workers.remove(&worker) else { return };
        let slot = process.slot;
        let worked = self.has_worked(&process);
        let running = if process.blame { process.page.running() } else { Vec::new() };
        let expected = process.phase == Phase::Retiring || self.stopping.is_some();
        let (cause, available) = self.explained(&process, cause);
        let mut record = self.record(&process, &process.page.running(), cause);
        record.machine_available = available;
        let step = if expected { LifeStep::Retired } else { LifeStep::Lost(record.cause.clone()) };
        self.note(slot, process.pid, step);
        let past = &mut self.past_runs[slot];
        past.extend(process.page.ring().read());
        past.drain(..past.len().saturating_sub(self.settings.events));
        if !expected {
            log::warn!("{record}");
            self.deaths.push_back(record.clone());
            while self.deaths.len() > DEATHS {
                self.deaths.pop_front();
            }
        }
        self.scheduler.session_closed(session_of(worker));
        self.sessions.remove(&session_of(worker));
        let told = record.to_string();
        self.scheduler.worker_lost(worker, &running, record);
        self.shared.ledger.forgive(&process.page);
        self.lent.remove(&Borrower::Worker(worker));
        self.forget_owner(owner_of(worker));
        let pause = if expected {
            self.slots[slot].leave();
            Duration::ZERO
        } else {
            self.slots[slot].end(Instant::now())
        };
        if worked {
            self.failing_since = None;
        }
        if self.stopping.is_none() && !self.slots[slot].closing {
            match self.settings.restart {
                RestartPolicy::Always => {
                    if !worked && !expected {
                        self.start_failed(&told);
                    }
                    self.refill_later(slot, pause, ctx);
                }
                RestartPolicy::Never => {
                    self.slots[slot].closing = true;
                    self.announce_fleet();
                    if self.workers.is_empty() {
                        self.give_up(&format!(
                            "all workers have died, and they are not to be replaced; the last: {told}"
                        ));
                    }
                }
            }
        }
        if self.stopping.is_some() && self.workers.is_empty() {
            ctx.stop();
        }
    }

    /// Lets all workers end, and then the actor.
    pub(in crate::supervisor) fn stop(&mut self, ctx: &mut Context<Supervisor>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now());
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for id in workers {
            if let Some(WorkerProcess { phase: Phase::Starting(_), .. }) = self.workers.get(&id) {
                self.kill(id, DeathCause::Unknown, false);
            } else {
                self.send(id, &ToWorker::Shutdown);
            }
        }
        if self.workers.is_empty() {
            ctx.stop();
        }
    }

    /// No worker is left and none will come.
    pub(super) fn give_up(&mut self, reason: &str) {
        log::error!("{reason}");
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.tell_session(session, ToSession::Closed { reason: reason.to_string() });
        }
    }
}
