//! The path of a client's requests to a supervisor in the same process.
//!
//! Waking a thread takes the kernel some microseconds, as long as everything else about a small task. So the client's
//! thread does the actor's work itself where no other thread has the core: it brings its request as far as the worker's
//! socket, and while it waits for the answer, it polls that socket, too.
//!
//! Who submits one small graph after the other, without waiting, pays a message and a worker's wake-up for each that way.
//! So from the fifth on they only queue: the actor's thread, woken once, takes all that are there in one turn, and sends each
//! worker one message. A thread that begins to wait serves what is still queued.

use super::actor::Supervisor;
use super::messages::Wake;
use super::shared_core::SharedCore;
use crate::coordinator;
use crate::ids::WorkerId;
use crate::ipc::clock::monotonic_ns;
use crate::ipc::payload::Payload;
use crate::message::Request;
use crate::remote::Remote;
use crate::supervisor::connection::Connection;
use actix::Addr;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The client's own thread serves requests about up to this many tasks. More are worth waking the actor's thread.
const FEW: usize = 256;
/// So many submissions close behind each other are served one by one; those behind them are served together.
const ROW: u32 = 4;
/// So many are served together at most, unless the core is taken.
const TOGETHER: usize = 64;
/// What comes later than this behind the one before is not close behind it: less than a round trip takes.
const CLOSE_NS: u64 = 12_000;

/// What a client is told whose supervisor was gone before it could be there.
pub(crate) const ENDED_EARLY: &str = "the supervisor ended while it started";

pub(crate) struct FastPath {
    pub(crate) supervisor: Addr<Supervisor>,
    /// The actor owns the core; a client that outlives the actor must not keep it.
    shared_core: Weak<SharedCore>,
    /// The worker that this path sent a message to last.
    last_worker: Mutex<Option<(WorkerId, Weak<Connection>)>>,
    row: Row,
}

/// Submissions close behind each other, with no wait between them. Only who serves them depends on these numbers.
#[derive(Default)]
struct Row {
    /// When the last one was, by the kernel's clock.
    last_ns: AtomicU64,
    len: AtomicU32,
}

impl Row {
    /// One more submission; whether there are more to come, as far as can be guessed.
    fn goes_on(&self, now: u64) -> bool {
        let before = self.last_ns.swap(now, Ordering::Relaxed);
        let close = now.saturating_sub(before) < CLOSE_NS;
        let len = if close { self.len.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.len.store(len, Ordering::Relaxed);
        len >= ROW
    }

    fn end(&self) {
        self.len.store(0, Ordering::Relaxed);
    }
}

impl FastPath {
    pub(crate) fn new(supervisor: Addr<Supervisor>, shared_core: &Arc<SharedCore>) -> Self {
        Self {
            supervisor,
            shared_core: Arc::downgrade(shared_core),
            last_worker: Mutex::default(),
            row: Row::default(),
        }
    }

    /// Opens the session of the client in this process, before its first request.
    pub(crate) fn belongs_to(&self, client: &Arc<Remote>) {
        match self.shared_core.upgrade() {
            Some(shared_core) if shared_core.open_client(client) => self.supervisor.do_send(Wake),
            Some(_) => {}
            None => client.close(ENDED_EARLY),
        }
    }

    /// Takes a request. It neither waits nor notifies the client: the caller may hold the client's locks.
    pub(crate) fn ask(&self, request: Request) {
        let Some(shared_core) = self.shared_core.upgrade() else { return };
        let waits = matches!(request, Request::Submit { .. }) && self.row.goes_on(monotonic_ns());
        // Whoever puts the first one there has them all served; where the actor falls behind, the client helps.
        match shared_core.push_request(request) {
            1 if waits || !self.try_serve(&shared_core) => self.supervisor.do_send(Wake),
            n if n.is_multiple_of(TOGETHER) => {
                self.try_serve(&shared_core);
            }
            _ => {}
        }
    }

    /// Takes a request about locks, queues and so on, of a thread that holds no lock. Where no other thread has the core, this
    /// one serves it, and has its answer.
    pub(crate) fn coordinate(&self, request: coordinator::Request<Payload>) {
        let Some(shared_core) = self.shared_core.upgrade() else { return };
        let first = shared_core.push_request(Request::Coordinate(request)) == 1;
        let suits = |request: &Request| matches!(request, Request::Coordinate(_)) || is_quick(request);
        let left = shared_core.try_serve_and_tell(|requests| requests.iter().all(suits));
        // Whoever put the first one there has called the actor.
        if left.unwrap_or(first) {
            self.supervisor.do_send(Wake);
        }
    }

    /// Serves the requests if they are small and no other thread has the core. `false`: something is left for the actor.
    fn try_serve(&self, shared_core: &SharedCore) -> bool {
        let (done, mut sent) = shared_core.try_serve(|requests| requests.iter().all(is_quick));
        if let Some((worker, connection)) = sent.pop() {
            *self.last_worker.lock() = Some((worker, Arc::downgrade(&connection)));
        }
        done
    }

    /// Serves what is queued, and takes in the answer of the worker that was sent a message last, if there is one. For a
    /// thread of the client that holds none of its locks.
    pub(crate) fn poll(&self) {
        self.row.end();
        let Some(shared_core) = self.shared_core.upgrade() else { return };
        if shared_core.has_requests() {
            // Whoever put the first one there has called the actor.
            self.try_serve(&shared_core);
        }
        let Some((worker, connection)) = self.last_worker.lock().clone() else { return };
        if !connection.upgrade().is_some_and(|connection| connection.has_something()) {
            return;
        }
        if let Some((_, true)) = shared_core.try_read(worker) {
            self.supervisor.do_send(Wake);
        }
    }
}

fn is_quick(request: &Request) -> bool {
    let tasks = match request {
        Request::Submit { spec, .. } => spec.len(),
        Request::Release { outputs, .. }
        | Request::Cancel { outputs, .. }
        | Request::Deliver { outputs, .. }
        | Request::Retry { outputs, .. } => outputs.len(),
        Request::Grow { .. }
        | Request::Weight(_)
        | Request::Released(_)
        | Request::FilesEnded(_)
        | Request::Ask { .. }
        | Request::Coordinate(_)
        | Request::Note(_) => return false,
    };
    tasks <= FEW
}
