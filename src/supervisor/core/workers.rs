//! The processes: started, welcomed, ended, replaced.

use super::{Core, DEATHS, Error, Executable, Life, Newborn, Peer, Phase, Result, Supervisor, owner_of, session_of};
use crate::error::{DeathCause, DeathRecord};
use crate::events::journal::ProcessStep;
use crate::graph::node;
use crate::ids::{TaskId, WorkerId};
use crate::ipc::clock;
use crate::ipc::frame::{Decoder, MAX_FRAME};
use crate::ipc::page::{ControlPage, PageError};
use crate::ipc::start;
use crate::memory::leak::Floor;
use crate::memory::process::Statm;
use crate::message::{ToSession, ToWorker, Welcome};
use crate::settings::{RestartPolicy, StartMethod};
use crate::supervisor::recent_lines::Tail;
use crate::supervisor::worker_link::{Pipe, WorkerLink};
use crate::supervisor::worker_slot::Place;
use crate::task::function::{Record, short_name};
use crate::task::image::BuildId;
use crate::task::program::{Op, Ops};
use crate::version::VERSION;
use actix::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Core {
    /// Starts one worker process.
    pub(super) fn give_birth(&mut self) -> Result<Newborn> {
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
        Ok(Newborn { child, socket, page: Arc::new(page), id })
    }

    /// Fills a place with a process.
    pub(super) fn settle_in(&mut self, place: usize, newborn: Newborn, ctx: &mut Context<Supervisor>) {
        let Newborn { mut child, socket, page, id } = newborn;
        let pid = child.id();
        let pipe = match Pipe::new(socket) {
            Ok(pipe) => pipe,
            Err(e) => {
                log::error!("a worker's socket is of no use: {e}");
                let _ = child.kill();
                let _ = child.wait();
                self.start_failed(&format!("its socket is of no use: {e}"));
                return self.refill_later(place, Duration::from_secs(1), ctx);
            }
        };
        self.places[place].begin(id, Instant::now());
        log::debug!("{} started as process {pid}", self.places[place].name);
        self.note(place, pid, ProcessStep::Started);
        let link = WorkerLink {
            worker: id,
            pipe: Arc::clone(&pipe),
            child: Some(child),
            hub: self.hub.clone(),
            supervisor: ctx.address(),
            page: Arc::clone(&page),
        };
        link.start();
        let phase = Phase::Starting(Instant::now());
        let life = Life {
            place,
            pid,
            pipe,
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
        self.lives.insert(id, life);
    }

    pub(super) fn refill_later(&mut self, place: usize, pause: Duration, ctx: &mut Context<Supervisor>) {
        if pause.is_zero() {
            return self.refill(place, ctx);
        }
        ctx.run_later(pause, move |supervisor, ctx| supervisor.with(ctx, |core, ctx| core.refill(place, ctx)));
    }

    pub(super) fn refill(&mut self, place: usize, ctx: &mut Context<Supervisor>) {
        let filled = self.places[place].closing || self.places[place].life.is_some();
        if self.stopping.is_some() || self.given_up || filled {
            return;
        }
        match self.give_birth() {
            Ok(newborn) => self.settle_in(place, newborn, ctx),
            Err(e) => {
                log::error!("{} cannot be started again: {e}; trying again", self.places[place].name);
                self.start_failed(&format!("{} cannot be started: {e}", self.places[place].name));
                self.refill_later(place, Duration::from_secs(1), ctx);
            }
        }
    }

    /// Fills the places that have no worker and should have one, also when that has been given up.
    pub(super) fn refill_open(&mut self, ctx: &mut Context<Supervisor>) {
        self.try_again();
        for place in 0..self.places.len() {
            self.refill(place, ctx);
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
        let dead = |w: &WorkerId| !self.lives.contains_key(w);
        let gone = (0..self.next_worker).map(WorkerId).filter(dead).map(owner_of).collect();
        let Some(life) = self.lives.get_mut(&worker) else { return Ok(()) };
        life.phase = Phase::Ready;
        let place = life.place;
        let welcome = Welcome {
            id: worker,
            name: self.places[place].name.clone(),
            owner: owner_of(worker),
            threads: self.settings.threads,
            memory_limit: self.settings.memory_limit,
            thresholds: self.settings.thresholds,
            spill_directory: self.settings.spill_directory.clone(),
            supervisor_page: self.shared.page.name().clone(),
            own_page: life.page.name().clone(),
            session: session_of(worker),
            counter: clock::uses_counter(),
            stranger: !matches!(self.executable, Executable::Own),
            gone,
        };
        let pid = life.pid;
        self.note(place, pid, ProcessStep::Ready);
        self.tell(worker, &ToWorker::Welcome(welcome));
        self.scheduler.worker_joined(worker, self.spec(place));
        if self.places[place].closing {
            self.scheduler.worker_retiring(worker);
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, id: WorkerId, cause: DeathCause, blame: bool) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.ended.get_or_insert(cause);
        life.blame &= blame;
        if let Err(e) = kill(Pid::from_raw(life.pid as i32), Signal::SIGKILL) {
            log::warn!("process {} cannot be killed: {e}", life.pid);
        }
    }

    /// Opens or closes places until there are `n`.
    pub(in crate::supervisor) fn scale(&mut self, n: usize) {
        for place in &mut self.places[..] {
            place.closing = false;
        }
        while self.places.len() < n {
            self.places.push(Place::new(self.places.len(), Vec::new()));
            self.tails.push(Tail::default());
            self.past_runs.push(Vec::new());
        }
        for place in &mut self.places[n..] {
            place.closing = true;
            if let Some(life) = place.life {
                self.scheduler.worker_retiring(life);
            }
        }
        self.settings.workers = n;
        self.tell_fleet();
        self.to_fill = true;
    }

    /// Replaces all workers.
    pub(in crate::supervisor) fn restart(&mut self) {
        let lives: Vec<_> = self.lives.keys().copied().collect();
        lives.into_iter().for_each(|id| self.kill(id, DeathCause::Unknown, false));
        self.to_fill = true;
    }

    /// The process of a worker has ended.
    pub(in crate::supervisor) fn gone(&mut self, worker: WorkerId, cause: DeathCause, ctx: &mut Context<Supervisor>) {
        let Some(life) = self.lives.remove(&worker) else { return };
        let place = life.place;
        let worked = self.has_worked(&life);
        let running = if life.blame { life.page.running() } else { Vec::new() };
        let expected = life.phase == Phase::Retiring || self.stopping.is_some();
        let (cause, available) = self.explained(&life, cause);
        let mut record = self.record(&life, &life.page.running(), cause);
        record.machine_available = available;
        let step = if expected { ProcessStep::Retired } else { ProcessStep::Lost(record.cause.clone()) };
        self.note(place, life.pid, step);
        let past = &mut self.past_runs[place];
        past.extend(life.page.ring().read());
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
        self.shared.ledger.forgive(&life.page);
        self.lent.remove(&Peer::Worker(worker));
        self.forget_owner(owner_of(worker));
        let pause = if expected {
            self.places[place].leave();
            Duration::ZERO
        } else {
            self.places[place].end(Instant::now())
        };
        if worked {
            self.starved = None;
        }
        if self.stopping.is_none() && !self.places[place].closing {
            match self.settings.restart {
                RestartPolicy::Always => {
                    if !worked && !expected {
                        self.start_failed(&told);
                    }
                    self.refill_later(place, pause, ctx);
                }
                RestartPolicy::Never => {
                    self.places[place].closing = true;
                    self.tell_fleet();
                    if self.lives.is_empty() {
                        self.give_up(&format!(
                            "all workers have died, and they are not to be replaced; the last: {told}"
                        ));
                    }
                }
            }
        }
        if self.stopping.is_some() && self.lives.is_empty() {
            ctx.stop();
        }
    }

    /// Lets all workers end, and then the actor.
    pub(in crate::supervisor) fn stop(&mut self, ctx: &mut Context<Supervisor>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now());
        let lives: Vec<_> = self.lives.keys().copied().collect();
        for id in lives {
            if let Some(Life { phase: Phase::Starting(_), .. }) = self.lives.get(&id) {
                self.kill(id, DeathCause::Unknown, false);
            } else {
                self.tell(id, &ToWorker::Shutdown);
            }
        }
        if self.lives.is_empty() {
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

    pub(super) fn record(&self, life: &Life, running: &[TaskId], cause: DeathCause) -> DeathRecord {
        // Its log lines are on its page too, where they survive what the pipe could not carry.
        let mut last_lines = self.last_words(life);
        if last_lines.is_empty() {
            last_lines = String::from_utf8_lossy(&life.page.last_log()).lines().map(ToString::to_string).collect();
        }
        let peaks = life.page.peaks();
        let peak_of = |id: &TaskId| peaks.iter().find(|(task, _)| task == id).map_or(0, |(_, peak)| *peak);
        DeathRecord {
            worker: self.places[life.place].name.clone(),
            pid: life.pid,
            cause,
            memory_limit: self.settings.memory_limit,
            memory_samples: life.page.samples(),
            machine_available: None,
            managed: life.page.gauges().managed(),
            spilled: life.page.gauges().spilled(),
            peak_bytes: running.iter().map(peak_of).collect(),
            running: running.iter().map(|id| self.key(life, *id)).collect(),
            input_bytes: running.iter().map(|id| self.scheduler.input_bytes(*id)).collect(),
            last_lines,
        }
    }

    /// The user-visible key of a task that a worker runs, as far as it can be told from here: of a chain of calls, of
    /// the one that runs.
    pub(super) fn key(&self, life: &Life, id: TaskId) -> String {
        let recorded = life.page.ring().latest(id).map(|record| record.run);
        let key = match recorded {
            Some(run) => run.name.or_else(|| self.function(run.place)).map(|name| node::key(&name, run.key)),
            // It has not called anything yet, or nothing is recorded.
            None => self.last_call(id),
        };
        key.unwrap_or_else(|| format!("task-{id}"))
    }

    fn function(&self, place: u64) -> Option<String> {
        match self.executable {
            Executable::Own => Record::at(place).map(|record| short_name(record.path())),
            Executable::Of(_) => self.functions.get(&place).cloned(),
        }
    }

    /// The key of the last call of a task, which is also that of its result.
    fn last_call(&self, id: TaskId) -> Option<String> {
        // Records are found only in an image of our own build.
        if !matches!(self.executable, Executable::Own) {
            return None;
        }
        let spec = self.scheduler.spec(id.job)?;
        let calls = Ops::new(spec.body(id.index)).filter_map(|op| match op {
            Ok(Op::Call { record, key, .. }) => Some((record, key)),
            _ => None,
        });
        let (record, hash) = calls.last()?;
        let given = spec.options.binary_search_by_key(&id.index, |o| o.0).ok();
        let name = given.and_then(|at| spec.options[at].1.name.clone());
        Some(node::key(&name.unwrap_or_else(|| short_name(record.path())), hash))
    }
}
