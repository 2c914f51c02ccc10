//! The supervisor's end of a connection, and the actor that owns a worker's.

use super::actor::{ProcessEnded, ReadEnd, SharedCore, Supervisor, Wake, WorkerEnded, WorkerOutput};
use crate::error::DeathCause;
use crate::ids::WorkerId;
use crate::ipc::event_loop::watch;
use crate::ipc::frame::{Decoder, Descriptor, Frame, Outgoing};
use crate::ipc::page::ControlPage;
use crate::ipc::socket::Socket;
use crate::ipc::start;
use crate::message;
use actix::prelude::*;
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use serde::Serialize;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// A peer that lets so many bytes pile up does not read any more.
const MOST_WAITING: usize = 1 << 30;
/// How long a process may take to end by itself after it closed its connection.
const LAST_BREATH: Duration = Duration::from_millis(300);
/// No pipe has been given a larger buffer.
const MOST_IN_A_PIPE: usize = 1 << 20;
/// How long a worker's output is left to itself while it runs tasks.
const LEFT_ALONE: Duration = Duration::from_millis(10);

/// One connection in an event loop: frames out at once where the socket takes them, by any thread; frames in as they come.
pub(crate) struct Connection {
    fd: AsyncFd<Socket>,
    out: Mutex<SendQueue>,
    /// The connection has ended, as far as this side goes.
    broken: AtomicBool,
    /// The event loop, for senders in other threads.
    runtime: Handle,
}

#[derive(Default)]
struct SendQueue {
    waiting: Outgoing,
    /// The socket is full, and somebody waits for room.
    draining: bool,
}

impl Connection {
    /// Belongs to the event loop of this thread.
    pub(crate) fn new(socket: Socket) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Self {
            fd: watch(socket, Interest::READABLE)?,
            out: Mutex::default(),
            broken: AtomicBool::new(false),
            runtime: Handle::current(),
        }))
    }

    /// Sends a message: now, or when there is room. A connection that is broken is noticed by its reader.
    pub(crate) fn send<M: Serialize>(self: &Arc<Self>, message: &M) -> Result<(), message::Malformed> {
        self.push(message).map(|_| self.flush())
    }

    /// Sends what is no message of this version's.
    pub(crate) fn send_frame(
        self: &Arc<Self>,
        kind: u8,
        body: Vec<u8>,
        fds: Vec<Descriptor>,
    ) -> Result<(), message::Malformed> {
        self.push_frame(kind, body, fds).map(|_| self.flush())
    }

    /// Puts a message behind those that wait to be sent; whether it is the first.
    pub(crate) fn push<M: Serialize>(&self, message: &M) -> Result<bool, message::Malformed> {
        let (body, segments) = message::encode(message)?;
        self.push_frame(message::KIND, body, message::descriptors(segments))
    }

    fn push_frame(&self, kind: u8, body: Vec<u8>, fds: Vec<Descriptor>) -> Result<bool, message::Malformed> {
        let mut out = self.out.lock();
        let first = out.waiting.is_empty();
        out.waiting.push(kind, body, fds).map_err(|e| message::Malformed(e.to_string()))?;
        if out.waiting.len_bytes() > MOST_WAITING {
            self.close();
        }
        Ok(first)
    }

    /// Sends what waits to be sent: now, or when there is room.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut out = self.out.lock();
        if out.draining || self.is_broken() {
            return;
        }
        match out.waiting.flush(self.fd.get_ref()) {
            Ok(true) => {}
            Ok(false) => {
                out.draining = true;
                self.runtime.spawn(Arc::clone(self).drain());
            }
            Err(_) => self.set_broken(),
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Ends the connection, whatever waits to be sent. The reader, here and there, finds its end.
    pub(crate) fn close(&self) {
        self.set_broken();
        if let Err(e) = shutdown(self.fd.get_ref().as_raw_fd(), Shutdown::Both) {
            log::debug!("a connection was closed already: {e}");
        }
    }

    async fn drain(self: Arc<Self>) {
        // A full socket is rare, so only then is room waited for, on a second descriptor of the same socket.
        let twin = self.fd.get_ref().as_fd().try_clone_to_owned().and_then(|fd| watch(fd, Interest::WRITABLE));
        let twin = match twin {
            Ok(twin) => twin,
            Err(e) => {
                log::error!("a full socket cannot be waited for: {e}");
                return self.set_broken();
            }
        };
        while let Ok(mut ready) = twin.writable().await {
            let mut out = self.out.lock();
            match out.waiting.flush(self.fd.get_ref()) {
                Ok(true) => {
                    out.draining = false;
                    return;
                }
                Ok(false) => ready.clear_ready(),
                Err(_) => break,
            }
        }
        self.set_broken();
    }

    /// Waits for frames. None: the peer has closed the connection.
    pub(crate) async fn receive(&self, decoder: &mut Decoder) -> Result<Option<Vec<Frame>>, String> {
        loop {
            let mut ready = self.fd.readable().await.map_err(|e| e.to_string())?;
            match self.take(decoder) {
                Ok(Received::End) => return Ok(None),
                Ok(Received::Nothing) => ready.clear_ready(),
                Ok(Received::Frames { frames, all }) => {
                    if all {
                        ready.clear_ready();
                    }
                    if !frames.is_empty() {
                        return Ok(Some(frames));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether something has arrived that nobody has taken, or an end that nobody has seen.
    pub(super) fn has_something(&self) -> bool {
        !self.is_broken() && self.fd.get_ref().poll_readable(Some(0)).unwrap_or(false)
    }

    /// Takes what has arrived.
    pub(super) fn take(&self, decoder: &mut Decoder) -> Result<Received, String> {
        if self.is_broken() {
            return Ok(Received::End);
        }
        let mut fds = Vec::new();
        let spare = decoder.spare_mut();
        let room = spare.len();
        let all = match self.fd.get_ref().recv_nonblocking(spare, &mut fds) {
            Ok(0) => return decoder.finish().map(|()| Received::End).map_err(|e| e.to_string()),
            Ok(n) => {
                // A stream that gives less than there is room for has no more, unless it stopped behind descriptors.
                let all = n < room && fds.is_empty();
                decoder.advance(n, fds);
                all
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Received::End),
            Err(e) => return Err(e.to_string()),
        };
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next().map_err(|e| e.to_string())? {
            frames.push(frame);
        }
        Ok(Received::Frames { frames, all })
    }
}

/// What has arrived.
pub(super) enum Received {
    /// Whole frames, if any, and whether that is all there is.
    Frames {
        frames: Vec<Frame>,
        all: bool,
    },
    Nothing,
    End,
}

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
        let page = Arc::clone(&self.page);
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
            let exited = start::pidfd(&child).and_then(|fd| watch(fd, Interest::READABLE));
            serve(worker, &connection, &shared_core, exited, &supervisor).await;
            let status = last_breath(&mut child).await;
            alive.set(false);
            supervisor.do_send(ProcessEnded { worker });
            // What it wrote last belongs to the record of its death, and is in the pipes by now.
            streams.iter().flatten().for_each(|stream| stream.drain());
            supervisor.do_send(WorkerEnded { worker, cause: cause_of(status) });
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
                    ready = connection.fd.readable() => ready,
                    // A process that a task started may keep the socket open, so its end alone does not tell.
                    _ = exited.readable() => return,
                }
            }
            Err(_) => connection.fd.readable().await,
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

/// Waits for the end of a process that has closed its connection; ends it if it does not.
async fn last_breath(child: &mut Child) -> Option<ExitStatus> {
    let began = std::time::Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => {}
            Err(e) => {
                log::warn!("a worker's end cannot be waited for: {e}");
                return None;
            }
        }
        if began.elapsed() > LAST_BREATH
            && let Err(e) = child.kill()
        {
            log::warn!("a worker cannot be killed: {e}");
        }
        actix_rt::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn cause_of(status: Option<ExitStatus>) -> DeathCause {
    match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => DeathCause::Exited(code),
            (None, Some(signal)) => DeathCause::Signal(signal),
            (None, None) => DeathCause::Unknown,
        },
        None => DeathCause::Unknown,
    }
}

/// What a worker writes to standard output or error.
struct OutputPipe {
    worker: WorkerId,
    supervisor: Addr<Supervisor>,
    pipe: AsyncFd<File>,
    stderr: bool,
}

impl OutputPipe {
    fn open(worker: WorkerId, supervisor: Addr<Supervisor>, pipe: OwnedFd, stderr: bool) -> Option<Rc<Self>> {
        let pipe = start::set_nonblocking(&pipe).and_then(|()| watch(File::from(pipe), Interest::READABLE));
        match pipe {
            Ok(pipe) => Some(Rc::new(Self { worker, supervisor, pipe, stderr })),
            Err(e) => {
                log::warn!("the output of {worker:?} cannot be read: {e}");
                None
            }
        }
    }

    /// Brings a piece of it to the supervisor. The answer is how long it is; 0: there will be no more.
    fn take(&self) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let n = self.pipe.get_ref().read(&mut bytes)?;
        if n > 0 {
            let (worker, stderr) = (self.worker, self.stderr);
            self.supervisor.do_send(WorkerOutput { worker, stderr, bytes: bytes[..n].to_vec() });
        }
        Ok(n)
    }

    /// Brings it all, as it comes. While the worker itself `listens`, it is left to that, which can say whose words they
    /// are. Processes that a task started may go on to write when the worker is gone.
    async fn follow(self: Rc<Self>, listens: Rc<dyn Fn() -> bool>) {
        loop {
            let Ok(mut ready) = self.pipe.readable().await else { return };
            if listens() {
                ready.retain_ready();
                actix_rt::time::sleep(LEFT_ALONE).await;
                continue;
            }
            match self.take() {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
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
