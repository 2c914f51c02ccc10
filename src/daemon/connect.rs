//! A program's end of its connection to a local cluster.

use super::paths;
use super::paths::ClusterPaths;
use crate::error::{Error, Result};
use crate::ipc::frame::{Decoder, Descriptor, MAX_FRAME, Outgoing};
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, start_time};
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::ipc::socket::Socket;
use crate::message;
use crate::message::{Attach, Attached, Control, FIRST, KIND, NoSegments, REFUSED, Request, ToSession};
use crate::remote::{Description, Remote, Uplink};
use crate::settings::WorkerHooks;
use crate::submission::reply::Reply;
use crate::task::image;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::geteuid;
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// While more bytes than this wait to be written, nobody submits more.
const MUCH: usize = 16 << 20;
/// A cluster that lets so many bytes pile up is given no more work.
const MOST_WAITING: usize = 1 << 30;
/// How long a cluster waits for the first word of whoever has connected.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long the cluster may take to answer; it may have to start a thousand workers first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a cluster may take from its last word to its end.
const END: Duration = Duration::from_secs(10);

/// How long after the end of a drain's time the cluster may take to tell what it has cut off: it ends its workers first.
const CUT: Duration = Duration::from_secs(6);

/// Why a question has no answer.
enum Unanswered {
    /// Not in this time.
    Late(Duration),
    Failed(String),
}

impl Unanswered {
    fn of(self, paths: &ClusterPaths) -> Error {
        match self {
            Self::Late(waited) => Error::Timeout { waited },
            Self::Failed(reason) => Error::Connect { path: paths.socket.clone(), reason },
        }
    }
}

/// Connects to the cluster as a program that runs tasks.
pub(crate) fn connect(target: &Path, name: Option<&str>, weight: f64, hooks: WorkerHooks) -> Result<Arc<Remote>> {
    let paths = ClusterPaths::of(target)?;
    let failed = |reason: String| Error::Connect { path: paths.socket.clone(), reason };
    let unanswered = |e| match e {
        Unanswered::Late(waited) => failed(format!("it did not answer within {waited:?}")),
        Unanswered::Failed(reason) => failed(reason),
    };
    let socket = dial(&paths, PATIENCE).map_err(unanswered)?;
    let executable =
        File::open("/proc/self/exe").map_err(|e| failed(format!("/proc/self/exe cannot be opened: {e}")))?;
    let program = std::env::current_exe().ok().and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
    let program = program.unwrap_or_else(|| "program".to_string());
    let attach = Attach::Program { build: image::build_id().clone(), name: program, hooks };
    let welcome = exchange(&socket, &attach, vec![OwnedFd::from(executable).into()], Some(PATIENCE));
    let welcome = welcome.map_err(unanswered)?;
    let (session, owner, supervisor_page, own_page, settings) = match welcome {
        Attached::Welcome { session, owner, supervisor_page, own_page, settings } => {
            (session, owner, supervisor_page, own_page, settings)
        }
        Attached::Refused(reason) => return Err(failed(reason)),
        _ => return Err(failed("it answered beside the point".to_string())),
    };
    let open = |page| ControlPage::open(page).map(Arc::new).map_err(|e| failed(e.to_string()));
    let ledger = Ledger::shared(open(&supervisor_page)?, open(&own_page)?);
    let pool = SegmentPool::new(owner, ledger, (settings.shared_memory / 8) as usize);
    let line = ClusterLink::new(socket, pool.clone()).map_err(|e| failed(e.to_string()))?;
    let who = name.unwrap_or("swath");
    let head = format!("processes client `{who}` on local cluster `{}`", settings.name);
    let description = Description::new(head, Some((*settings).clone()));
    let remote = Remote::new(Box::new(Arc::clone(&line)), session, pool, description);
    let (heard, cluster) = (Arc::downgrade(&remote), settings.name);
    std::thread::Builder::new()
        .name("swath-cluster".to_string())
        .spawn(move || {
            listen(&line, &heard, &cluster);
            line.give_up();
        })
        .map_err(|e| failed(format!("no thread for the connection: {e}; raise `ulimit -u`")))?;
    if weight != 1.0 {
        remote.send_quietly(Request::Weight(weight));
    }
    Ok(remote)
}

/// Sends one command, and answers with what the cluster says; [`Error::Timeout`] where it says nothing in that time.
pub(crate) fn control(paths: &ClusterPaths, command: Control, patience: Duration) -> Result<Attached> {
    let began = Instant::now();
    let socket = dial(paths, patience).map_err(|e| e.of(paths))?;
    let left = patience.saturating_sub(began.elapsed());
    exchange(&socket, &Attach::Control(command), Vec::new(), Some(left)).map_err(|e| match e {
        Unanswered::Late(_) => Error::Timeout { waited: patience },
        failed => failed.of(paths),
    })
}

/// Stops a cluster and waits until it has ended.
pub(crate) fn stop(paths: &ClusterPaths) -> Result<()> {
    end(paths, Control::Stop, Some(PATIENCE)).map(drop)
}

/// The same when no graph is under way, or the time is over; answers how many tasks were still to be done. The cluster is to
/// be one that has just answered.
pub(crate) fn drain(paths: &ClusterPaths, timeout: Option<Duration>) -> Result<u64> {
    let millis = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    end(paths, Control::Drain { millis }, timeout.and_then(|timeout| timeout.checked_add(CUT)))
}

fn end(paths: &ClusterPaths, command: Control, patience: Option<Duration>) -> Result<u64> {
    // Together they name one process; a number alone may be another's a moment later.
    let process = paths::pid(paths).and_then(|pid| Some((pid, start_time(pid)?)));
    let socket = dial(paths, PATIENCE).map_err(|e| e.of(paths))?;
    let cut = match exchange(&socket, &Attach::Control(command), Vec::new(), patience).map_err(|e| e.of(paths))? {
        Attached::Refused(reason) => return Err(paths.error(reason)),
        Attached::Drained { cut } => cut,
        _ => 0,
    };
    let until = Instant::now() + END;
    while let Some((pid, since)) = process
        && start_time(pid) == Some(since)
    {
        if Instant::now() > until {
            return Err(paths.error(format!("it was told to stop and does not end; its process id is {pid}")));
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(cut)
}

/// Connects to the socket, if there is a cluster of our own user behind it.
fn dial(paths: &ClusterPaths, patience: Duration) -> std::result::Result<Socket, Unanswered> {
    let failed = |reason: &str| Unanswered::Failed(reason.to_string());
    let socket = Socket::connect(&paths.socket, patience).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => Unanswered::Late(patience),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let log = paths.log();
            let words = match log.exists() {
                true => format!(" (the last one did not stop in order; its log is {})", log.display()),
                false => String::new(),
            };
            let who = paths.as_told();
            failed(&format!("none runs there{words}; start one with `local-cluster start --name {who}`"))
        }
        io::ErrorKind::PermissionDenied => failed("it belongs to another user"),
        _ => failed(&e.to_string()),
    })?;
    match socket.peer_uid() {
        Ok(uid) if uid == geteuid().as_raw() => Ok(socket),
        Ok(uid) => Err(failed(&format!("it belongs to another user ({uid})"))),
        Err(e) => Err(failed(&e.to_string())),
    }
}

/// Says the first word and hears the first answer.
fn exchange(
    socket: &Socket,
    attach: &Attach,
    fds: Vec<Descriptor>,
    patience: Option<Duration>,
) -> std::result::Result<Attached, Unanswered> {
    let failed = |e: &dyn std::fmt::Display| Unanswered::Failed(e.to_string());
    let body = message::encode_first(attach).map_err(|e| failed(&e))?;
    let mut out = Outgoing::new();
    out.push(FIRST, body, fds).map_err(|e| failed(&e))?;
    // A cluster that refuses may have closed already; its reason can be read all the same.
    let sent = out.flush_all(socket);
    let mut decoder = Decoder::new(MAX_FRAME);
    let until = patience.and_then(|patience| Instant::now().checked_add(patience));
    loop {
        if let Some(frame) = decoder.next().map_err(|e| failed(&e))? {
            if frame.kind == REFUSED {
                return Ok(Attached::Refused(String::from_utf8_lossy(&frame.body).into_owned()));
            }
            return message::decode(frame, &mut NoSegments).map_err(|e| failed(&e));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_millis() as u64);
        if !socket.poll_readable(left).map_err(|e| failed(&e))? {
            return Err(Unanswered::Late(patience.unwrap_or_default()));
        }
        let mut fds = Vec::new();
        match socket.recv(decoder.spare_mut(), &mut fds) {
            Ok(0) => {
                return Err(match sent {
                    Ok(()) => failed(&"it closed the connection"),
                    Err(e) => failed(&e),
                });
            }
            Ok(n) => decoder.advance(n, fds),
            Err(e) => return Err(failed(&e)),
        }
    }
}

/// The connection. Any thread writes what the socket takes at once; one thread reads, and writes the rest.
struct ClusterLink {
    socket: Socket,
    out: Mutex<Outbox>,
    pool: SegmentPool,
    attachments: Attachments,
    /// Rung to wake the thread: there is something to write, or segments of others are no longer used.
    bell: Arc<Socket>,
    /// Where the bell is heard.
    rung: Socket,
    hung_up: AtomicBool,
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    frames: Outgoing,
    /// Told when there is room again.
    room: Option<Reply<()>>,
    /// Why nothing more can be written.
    broken: Option<io::Error>,
}

/// Whether the other side has closed the connection.
fn is_end(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Wakes the thread that hears it.
fn ring(bell: &Socket) {
    // Full means that it is awake already; closed, that nobody is there to be told.
    let _ = bell.send_nonblocking(&[IoSlice::new(&[1])], &[]);
}

impl ClusterLink {
    fn new(socket: Socket, pool: SegmentPool) -> io::Result<Arc<Self>> {
        let attachments = Attachments::new();
        pool.joins(&attachments);
        let (bell, rung) = Socket::pair()?;
        let bell = Arc::new(bell);
        let notifier = Arc::clone(&bell);
        // Whoever drops a segment may hold any lock, so it must not send: the reading thread does, once it is woken.
        attachments.set_notifier(Box::new(move || ring(&notifier)));
        let (out, hung_up) = (Mutex::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { socket, out, pool, attachments, bell, rung, hung_up }))
    }

    /// Writes a request, or as much of it as the socket takes now; the thread writes the rest. Work is refused where too
    /// much waits; what lets go of it, or asks for it, is small and always taken.
    fn write(&self, request: &Request) -> Result<()> {
        let refused = |reason| Error::Resource { resource: "a message to the local cluster".to_string(), reason };
        let (body, segments) =
            message::encode(request).map_err(|e| refused(format!("{e}; submit fewer large values at once")))?;
        let gone = |e: &io::Error| Error::Closed { reason: format!("the local cluster is gone: {e}") };
        let mut out = self.out.lock();
        if let Some(e) = &out.broken {
            return Err(gone(e));
        }
        let waiting = out.frames.len_bytes();
        if matches!(request, Request::Submit { .. } | Request::Grow { .. })
            && waiting > 0
            && waiting + body.len() > MOST_WAITING
        {
            return Err(refused(format!("{waiting} bytes wait for it to read them; submit more when it has")));
        }
        for segment in &segments {
            self.pool.lend(segment);
        }
        out.frames.push_message(KIND, body, &segments).map_err(|e| refused(e.to_string()))?;
        if let Request::FilesEnded(files) = request {
            out.frames.forget(files);
        }
        if waiting > 0 {
            return Ok(());
        }
        match out.frames.flush(&self.socket) {
            Ok(true) => Ok(()),
            Ok(false) => {
                ring(&self.bell);
                Ok(())
            }
            Err(e) => {
                let error = gone(&e);
                self.break_off(&mut out, e);
                Err(error)
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    fn flush(&self) {
        let mut out = self.out.lock();
        if let Err(e) = out.frames.flush(&self.socket) {
            self.break_off(&mut out, e);
        }
        let room = if out.frames.len_bytes() < MUCH { out.room.take() } else { None };
        drop(out);
        if let Some(room) = room {
            room.set(Ok(()));
        }
    }

    /// Nothing more can be written; whoever reads finds the end, too.
    fn break_off(&self, out: &mut Outbox, why: io::Error) {
        // What has arrived from a cluster that has ended can still be read.
        if !is_end(&why) {
            self.shut();
        }
        out.broken = Some(why);
        out.frames = Outgoing::new();
    }

    /// Why there is nothing more to read.
    fn ended(&self, cluster: &str) -> String {
        match &self.out.lock().broken {
            Some(e) if !is_end(e) => format!("the connection to the local cluster `{cluster}` failed: {e}"),
            _ => format!("the local cluster `{cluster}` is gone"),
        }
    }

    /// Nobody writes any more; whoever waits for that need not wait.
    fn give_up(&self) {
        let mut out = self.out.lock();
        out.broken.get_or_insert_with(|| io::ErrorKind::NotConnected.into());
        out.frames = Outgoing::new();
        let room = out.room.take();
        drop(out);
        if let Some(room) = room {
            room.set(Ok(()));
        }
    }

    fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.shut();
    }

    fn shut(&self) {
        // If it fails, the connection was closed already. Not logged: whoever shuts may have a lock.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Waits for something to do.
    fn wait(&self) -> io::Result<LinkTask> {
        let (read, write) = (PollFlags::POLLIN, PollFlags::POLLIN | PollFlags::POLLOUT);
        let events = if self.out.lock().frames.is_empty() { read } else { write };
        let mut both = [PollFd::new(self.socket.as_fd(), events), PollFd::new(self.rung.as_fd(), read)];
        match poll(&mut both, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let [socket, rung] = both.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(LinkTask {
            read: !(socket - PollFlags::POLLOUT).is_empty(),
            write: socket.contains(PollFlags::POLLOUT),
            rung: !rung.is_empty(),
        })
    }

    fn tell_released(&self) {
        // Emptied before the list is read, so that nothing is missed.
        while self.rung.recv_nonblocking(&mut [0; 64], &mut Vec::new()).is_ok_and(|n| n == 64) {}
        let released = self.attachments.take_released();
        if !released.is_empty()
            && let Err(e) = self.write(&Request::Released(released))
        {
            log::debug!("segments are not given back: {e}");
        }
    }

    /// Reads what is there. None: the connection has ended.
    fn read(&self, decoder: &mut Decoder) -> std::result::Result<Option<Vec<ToSession>>, String> {
        let mut fds = Vec::new();
        match self.socket.recv(decoder.spare_mut(), &mut fds) {
            Ok(0) => return Ok(None),
            Err(e) if is_end(&e) => return Ok(None),
            Err(e) => return Err(e.to_string()),
            Ok(n) => decoder.advance(n, fds),
        }
        let mut words = Vec::new();
        while let Some(frame) = decoder.next().map_err(|e| e.to_string())? {
            words.push(message::decode(frame, &mut self.attachments.arrival()).map_err(|e| e.to_string())?);
        }
        Ok(Some(words))
    }
}

/// What the thread is to do.
struct LinkTask {
    read: bool,
    write: bool,
    rung: bool,
}

impl Uplink for Arc<ClusterLink> {
    fn send(&self, request: Request) -> Result<()> {
        self.write(&request)
    }

    fn room(&self) -> Option<Reply<()>> {
        let mut out = self.out.lock();
        let much = out.broken.is_none() && out.frames.len_bytes() >= MUCH;
        much.then(|| out.room.get_or_insert_with(Reply::new).clone())
    }

    fn close(&self) {
        self.hang_up();
    }
}

/// Brings the cluster's words to the client until one of them ends the connection.
fn listen(line: &ClusterLink, remote: &Weak<Remote>, cluster: &str) {
    let mut decoder = Decoder::new(MAX_FRAME);
    let reason = loop {
        let todo = match line.wait() {
            Ok(todo) => todo,
            Err(e) => break format!("the connection to the local cluster `{cluster}` failed: {e}"),
        };
        if todo.rung {
            line.tell_released();
        }
        if todo.write {
            line.flush();
        }
        if !todo.read {
            continue;
        }
        match line.read(&mut decoder) {
            Ok(None) => break line.ended(cluster),
            Ok(Some(messages)) => {
                let Some(remote) = remote.upgrade() else { return line.hang_up() };
                for message in messages {
                    if let ToSession::FilesEnded(files) = &message {
                        line.attachments.end_files(files);
                    }
                    remote.receive(message);
                }
            }
            Err(e) => break format!("the connection to the local cluster `{cluster}` failed: {e}"),
        }
    };
    // Closed by this side: whoever did it says why.
    if line.hung_up.load(Ordering::Acquire) {
        return;
    }
    line.hang_up();
    if let Some(remote) = remote.upgrade() {
        remote.close(&reason);
    }
}
