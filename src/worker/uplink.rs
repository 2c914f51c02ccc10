//! The worker's end of the socket to the supervisor, and what its tasks send through it as clients.

use super::Worker;
use crate::error::{Error, Result as SwathResult};
use crate::ipc::frame::{Decoder, MAX_FRAME, Outgoing};
use crate::ipc::page::ControlPage;
use crate::ipc::segment::Attachments;
use crate::ipc::socket::Socket;
use crate::ipc::start::{UNHEARD, end_fork, exit_now};
use crate::message;
use crate::message::{FromWorker, Request, ToWorker};
use crate::remote;
use crate::submission::waiter::spin_until;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a thread may take to say why the process ends.
const SAYING: Duration = Duration::from_millis(100);

pub(super) struct SupervisorSocket {
    socket: Socket,
    /// Where the supervisor finds why this process has ended, once it is known.
    page: OnceLock<Arc<ControlPage>>,
    out: Mutex<Outgoing>,
    input: Mutex<Decoder>,
    attachments: Attachments,
    closed: AtomicBool,
    /// A thread has found that descriptors were closed, and ends the process.
    robbed: AtomicBool,
}

impl SupervisorSocket {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            page: OnceLock::new(),
            out: Mutex::new(Outgoing::new()),
            input: Mutex::new(Decoder::new(MAX_FRAME)),
            attachments: Attachments::new(),
            closed: AtomicBool::new(false),
            robbed: AtomicBool::new(false),
        }
    }

    pub(super) fn set_page(&self, page: &Arc<ControlPage>) {
        let _ = self.page.set(Arc::clone(page));
    }

    /// Ends the process: descriptors that it needs have been closed, and what has their numbers now is not known.
    pub(super) fn end_robbed(&self) -> ! {
        if let Some(page) = self.page.get() {
            page.set_robbed();
        }
        match self.robbed.swap(true, Ordering::Relaxed) {
            false => log::error!(
                "a task that ran here has closed file descriptors of this worker, which therefore ends: a task may close \
                 only what it has opened"
            ),
            // Another thread says so now; it may have to wait for room in the pipe, which need not come.
            true => std::thread::sleep(SAYING),
        }
        exit_now(UNHEARD)
    }

    /// Ends the process, which cannot go on as a worker. Whether anybody reads what is logged now is not known, so the reason
    /// stays on its page.
    pub(super) fn give_up(&self, reason: &str) -> ! {
        if let Some(page) = self.page.get() {
            page.set_reason(reason);
        }
        log::error!("{reason}");
        exit_now(UNHEARD)
    }

    pub(super) fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends a message, waiting for room. The thread that reads notices when the supervisor has ended.
    pub(super) fn send(&self, message: &FromWorker) {
        end_fork();
        let sent = message::encode(message).map_err(|e| e.to_string()).and_then(|(body, segments)| {
            let mut out = self.out.lock();
            out.push_message(message::KIND, body, &segments).map_err(|e| e.to_string())?;
            if let FromWorker::FilesEnded(files) = message {
                out.forget(files);
            }
            match out.flush_all(&self.socket) {
                Ok(()) => Ok(()),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset) => {
                    Ok(())
                }
                Err(e) if is_robbed(&e) => self.end_robbed(),
                Err(e) => Err(e.to_string()),
            }
        });
        if let Err(reason) = sent {
            // Otherwise the supervisor would wait for ever; a dead worker is replaced.
            self.give_up(&format!("a message to the supervisor cannot be sent: {reason}"));
        }
    }

    /// What becomes readable when there is something to read.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until there is something to read.
    pub(super) fn poll(&self, timeout_ms: u64) -> bool {
        self.socket.poll_readable(Some(timeout_ms)).unwrap_or(true)
    }

    /// Waits for the next messages. An empty list and `is_closed`: the supervisor has closed the connection.
    pub(super) fn read(&self) -> Result<Vec<ToWorker>, String> {
        let mut input = self.input.lock();
        let mut fds = Vec::new();
        // Who asked for one short task after the other asks for the next before this thread would be asleep.
        let come = Cell::new(self.poll(0));
        if !come.get() && !spin_until(|| come.get(), || come.set(self.poll(0))) {
            // A thread that sleeps in `recvmsg` is woken also when the peer reads; one in `poll` only when data has come.
            self.socket.poll_readable(None).map_err(|e| e.to_string())?;
        }
        let read = match self.socket.recv(input.spare_mut(), &mut fds) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
            // The supervisor has not ended, and does not know of this.
            Err(e) if is_robbed(&e) => self.end_robbed(),
            Err(e) => return Err(e.to_string()),
        };
        if read == 0 {
            let finished = input.finish();
            drop(input);
            if let Err(e) = finished {
                log::warn!("the supervisor's last message is cut short: {e}");
            }
            self.closed.store(true, Ordering::Release);
            return Ok(Vec::new());
        }
        input.advance(read, fds);
        let mut messages = Vec::new();
        while let Some(frame) = input.next().map_err(|e| e.to_string())? {
            messages.push(message::decode(frame, &mut self.attachments.arrival()).map_err(|e| e.to_string())?);
        }
        Ok(messages)
    }

    /// Waits for the first messages.
    pub(super) fn read_first(&self) -> Result<Vec<ToWorker>, String> {
        loop {
            let messages = self.read()?;
            if self.is_closed() {
                return Err("the supervisor is gone".to_string());
            }
            if !messages.is_empty() {
                return Ok(messages);
            }
        }
    }
}

/// Whether the error says that a descriptor is not what it was.
fn is_robbed(e: &std::io::Error) -> bool {
    matches!(Errno::from_raw(e.raw_os_error().unwrap_or(0)), Errno::EBADF | Errno::ENOTSOCK)
}

/// How the client inside a task sends requests to the supervisor.
pub(super) struct TaskUplink(pub(super) &'static Worker);

impl remote::Uplink for TaskUplink {
    fn send(&self, request: Request) -> SwathResult<()> {
        if let Request::Submit { spec, .. } | Request::Grow { part: spec, .. } = &request {
            spec.data.iter().for_each(|(_, payload)| self.0.lend(payload));
        }
        if let Request::Coordinate(request) = &request
            && let Some(payload) = request.value()
        {
            self.0.lend(payload);
        }
        if self.0.supervisor.is_closed() {
            return Err(Error::Closed { reason: "the supervisor is gone".to_string() });
        }
        self.0.supervisor.send(&FromWorker::Session(request));
        Ok(())
    }

    fn pass(&self, time: Duration) {
        self.0.pass(time);
    }

    fn close(&self) {}
}
