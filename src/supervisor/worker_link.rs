//! The actor that owns one worker process: its connection, its pipes, its end.

use super::actor::Supervisor;
use super::messages::{ProcessEnded, Wake, WorkerEnded, WorkerOutput};
use super::shared_core::{ReadEnd, SharedCore};
use crate::error::DeathCause;
use crate::host::report;
use crate::ids::WorkerId;
use crate::ipc::captured::CHUNK;
use crate::ipc::event_loop::register;
use crate::ipc::page::ControlPage;
use crate::ipc::process_tree::{has_ended, kill_group, kill_started_with};
use crate::ipc::start;
use crate::supervisor::connection::Connection;
use actix::prelude::*;
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long a process may take to end by itself after it closed its connection.
const LAST_BREATH: Duration = Duration::from_millis(300);
/// No pipe has been given a larger buffer.
const MOST_IN_A_PIPE: usize = 1 << 20;
/// How long a worker's output is left to itself while it runs tasks.
const LEFT_ALONE: Duration = Duration::from_millis(10);

/// Owns one worker process: its socket, its pipes, its process.
pub(super) struct WorkerLink {
    pub(super) worker: WorkerId,
    pub(super) connection: Arc<Connection>,
    pub(super) child: Option<Child>,
    pub(super) shared_core: Weak<SharedCore>,
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) page: Arc<ControlPage>,
}

impl Actor for WorkerLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(mut child) = self.child.take() else { return ctx.stop() };
        let (worker, supervisor) = (self.worker, self.supervisor.clone());
        let (page, own_page) = (Arc::clone(&self.page), Arc::clone(&self.page));
        let alive = Rc::new(Cell::new(true));
        let listens: Rc<dyn Fn() -> bool> = {
            let alive = Rc::clone(&alive);
            Rc::new(move || alive.get() && page.is_listening())
        };
        let stream = |pipe: Option<OwnedFd>, stderr| OutputPipe::open(worker, supervisor.clone(), pipe?, stderr);
        let streams = [
            stream(child.stdout.take().map(OwnedFd::from), false),
            stream(child.stderr.take().map(OwnedFd::from), true),
        ];
        for stream in streams.iter().flatten() {
            actix::spawn(Rc::clone(stream).follow(Rc::clone(&listens)));
        }
        let (connection, shared_core) = (Arc::clone(&self.connection), self.shared_core.clone());
        let service = async move {
            let exited = start::pidfd(&child).and_then(|fd| register(fd, Interest::READABLE));
            serve(worker, &connection, &shared_core, exited, &supervisor).await;
            let status = last_breath(&mut child, &own_page).await;
            alive.set(false);
            supervisor.do_send(ProcessEnded { worker });
            // What it wrote last belongs to the record of its death, and is in the pipes by now.
            streams.iter().flatten().for_each(|stream| stream.drain());
            supervisor.do_send(WorkerEnded { worker, cause: status });
        };
        ctx.spawn(service.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

/// Has what the worker sends taken in until the connection or the process ends.
async fn serve(
    worker: WorkerId,
    connection: &Connection,
    shared_core: &Weak<SharedCore>,
    exited: io::Result<AsyncFd<OwnedFd>>,
    supervisor: &Addr<Supervisor>,
) {
    loop {
        let ready = match &exited {
            Ok(exited) => {
                tokio::select! {
                    biased;
                    ready = connection.readable() => ready,
                    // A process that a task started may keep the socket open, so its end alone does not tell.
                    _ = exited.readable() => return,
                }
            }
            Err(_) => connection.readable().await,
        };
        let (Ok(mut ready), Some(shared_core)) = (ready, shared_core.upgrade()) else { return };
        let (got, left) = shared_core.read(worker);
        if left {
            supervisor.do_send(Wake);
        }
        match got {
            ReadEnd::All => ready.clear_ready(),
            ReadEnd::More => tokio::task::yield_now().await,
            ReadEnd::End => return,
        }
    }
}

/// Waits for the end of a process that has closed its connection; ends it if it does not. What its tasks have started ends
/// with it. The answer is how it ended.
async fn last_breath(child: &mut Child, page: &ControlPage) -> DeathCause {
    let began = std::time::Instant::now();
    let mut pause = Duration::from_micros(200);
    let mut killed = false;
    // While nobody has waited for the process, its number and that of its group are no other's.
    while let Ok(false) = has_ended(child) {
        if began.elapsed() > LAST_BREATH {
            killed = true;
            kill_group(child.id());
        }
        actix_rt::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    kill_group(child.id());
    let status = match child.wait() {
        Ok(status) => status,
        Err(e) => {
            report!(Warn, "a worker's end cannot be waited for: {e}");
            return DeathCause::Unknown;
        }
    };
    // One that ends as it is to sees to the rest itself.
    if status.code() != Some(0) || !page.running().is_empty() {
        kill_started_with(page.name());
    }
    // It has closed its connection and run on.
    if killed && status.signal() == Some(Signal::SIGKILL as i32) {
        return DeathCause::DescriptorsClosed;
    }
    cause_of(status)
}

fn cause_of(status: ExitStatus) -> DeathCause {
    match (status.code(), status.signal()) {
        (Some(code), _) => DeathCause::Exited(code),
        (None, Some(signal)) => DeathCause::Signal(signal),
        (None, None) => DeathCause::Unknown,
    }
}

/// What a worker writes to standard output or error.
struct OutputPipe {
    worker: WorkerId,
    supervisor: Addr<Supervisor>,
    pipe: Rc<File>,
    stderr: bool,
}

impl OutputPipe {
    fn open(worker: WorkerId, supervisor: Addr<Supervisor>, pipe: OwnedFd, stderr: bool) -> Option<Rc<Self>> {
        if let Err(e) = start::set_nonblocking(&pipe) {
            report!(Warn, "the output of {worker:?} cannot be read: {e}");
            return None;
        }
        Some(Rc::new(Self { worker, supervisor, pipe: Rc::new(File::from(pipe)), stderr }))
    }

    /// Has the event loop watch the pipe.
    fn watch(&self) -> Option<AsyncFd<Rc<File>>> {
        let worker = self.worker;
        let unheard = |e: &io::Error| report!(Warn, "the output of {worker:?} cannot be waited for: {e}");
        register(Rc::clone(&self.pipe), Interest::READABLE).inspect_err(unheard).ok()
    }

    /// Brings a piece of it to the supervisor. The answer is how long it is; 0: there will be no more.
    fn take(&self) -> io::Result<usize> {
        let mut bytes = [0; CHUNK];
        let n = (&*self.pipe).read(&mut bytes)?;
        if n > 0 {
            let (worker, stderr) = (self.worker, self.stderr);
            self.supervisor.do_send(WorkerOutput { worker, stderr, bytes: bytes[..n].to_vec() });
        }
        Ok(n)
    }

    /// Brings it all, as it comes. While the worker itself `listens`, it is left to that, which can say whose words they
    /// are. Processes that a task started may go on to write when the worker has ended.
    async fn follow(self: Rc<Self>, listens: Rc<dyn Fn() -> bool>) {
        let Some(mut pipe) = self.watch() else { return };
        loop {
            let Ok(mut ready) = pipe.readable().await else { return };
            if listens() {
                // While the pipe is watched, each write of a task wakes the event loop.
                drop(ready);
                drop(pipe);
                actix_rt::time::sleep(LEFT_ALONE).await;
                match self.watch() {
                    Some(again) => pipe = again,
                    None => return,
                }
                continue;
            }
            match self.take() {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A pipe that all writers had left for a moment counts as closed from then on, and would be read
                    // again and again at once.
                    let was_closed = ready.ready().is_read_closed();
                    ready.clear_ready();
                    if was_closed {
                        actix_rt::time::sleep(LEFT_ALONE).await;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Brings what is there now, and no more than a pipe can hold: somebody else may be writing.
    fn drain(&self) {
        let mut brought = 0;
        while brought < MOST_IN_A_PIPE {
            match self.take() {
                Ok(n @ 1..) => brought += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}
