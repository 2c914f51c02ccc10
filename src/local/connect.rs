//! A program's end of its connection to a local cluster.

use super::place::{self, Place};
use crate::client::remote::{Description, Remote, Uplink};
use crate::error::{Error, Result};
use crate::ipc::frame::{Decoder, Descriptor, MAX_FRAME, Outgoing};
use crate::ipc::ledger::Ledger;
use crate::ipc::page::{ControlPage, start_time};
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::ipc::socket::Socket;
use crate::message::{self, Attach, Attached, Control, FIRST, FromCluster, KIND, REFUSED, Request, no_segments};
use crate::task::image;
use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{GenericFilePath, Stream, ToFsName};
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

/// How long the cluster may take to answer; it may have to start a thousand workers first.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a cluster may take from its last word to its end.
const END: Duration = Duration::from_secs(10);

/// Connects to the cluster as a program that runs tasks.
pub(crate) fn connect(target: &Path, name: Option<&str>) -> Result<Arc<Remote>> {
    let place = Place::of(target)?;
    let failed = |reason: String| Error::Connect { path: place.socket.clone(), reason };
    let socket = dial(&place)?;
    let executable =
        File::open("/proc/self/exe").map_err(|e| failed(format!("/proc/self/exe cannot be opened: {e}")))?;
    let program = std::env::current_exe().ok().and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
    let program = program.unwrap_or_else(|| "program".to_string());
    let attach = Attach::Program { build: image::build_id().clone(), name: program };
    let welcome = exchange(&socket, &attach, vec![OwnedFd::from(executable).into()]).map_err(failed)?;
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
    let line = Line::new(socket, pool.clone()).map_err(|e| failed(e.to_string()))?;
    let who = name.unwrap_or("swath");
    let head = format!("processes client `{who}` on local cluster `{}`", settings.name);
    let description = Description::new(head, Some((*settings).clone()));
    let remote = Remote::new(Box::new(Arc::clone(&line)), session, pool, description);
    let (heard, cluster) = (Arc::downgrade(&remote), settings.name);
    std::thread::Builder::new()
        .name("swath-cluster".to_string())
        .spawn(move || listen(&line, &heard, &cluster))
        .map_err(|e| failed(format!("no thread for the connection: {e}; raise `ulimit -u`")))?;
    Ok(remote)
}

/// Sends one command, and answers with what the cluster says.
pub(super) fn control(place: &Place, command: Control) -> Result<Attached> {
    let socket = dial(place)?;
    exchange(&socket, &Attach::Control(command), Vec::new())
        .map_err(|reason| Error::Connect { path: place.socket.clone(), reason })
}

/// Stops a cluster and waits until it is gone.
pub(super) fn stop(place: &Place) -> Result<()> {
    // Together they name one process; a number alone may be another's a moment later.
    let process = place::pid(place).and_then(|pid| Some((pid, start_time(pid)?)));
    let socket = dial(place)?;
    let attach = Attach::Control(Control::Stop);
    let failed = |reason| Error::Connect { path: place.socket.clone(), reason };
    if let Attached::Refused(reason) = exchange(&socket, &attach, Vec::new()).map_err(failed)? {
        return Err(place.error(reason));
    }
    let until = Instant::now() + END;
    while let Some((pid, since)) = process
        && start_time(pid) == Some(since)
    {
        if Instant::now() > until {
            return Err(place.error(format!("it was told to stop and does not end; its process id is {pid}")));
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

/// Connects to the socket, if there is a cluster of our own user behind it.
fn dial(place: &Place) -> Result<Socket> {
    let failed = |reason: String| Error::Connect { path: place.socket.clone(), reason };
    let name = place.socket.as_os_str().to_fs_name::<GenericFilePath>().map_err(|e| failed(e.to_string()))?;
    let stream = Stream::connect(name).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let log = place.log();
            let words = match log.exists() {
                true => format!(" (the last one did not stop in order; its log is {})", log.display()),
                false => String::new(),
            };
            failed(format!("none runs there{words}; start one with `local-cluster start --name {}`", place.name))
        }
        io::ErrorKind::PermissionDenied => failed("it belongs to another user".to_string()),
        _ => failed(e.to_string()),
    })?;
    let Stream::UdSocket(stream) = stream;
    let socket = Socket::from(OwnedFd::from(stream));
    match socket.peer_uid() {
        Ok(uid) if uid == geteuid().as_raw() => Ok(socket),
        Ok(uid) => Err(failed(format!("it belongs to another user ({uid})"))),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// Says the first word and hears the first answer.
fn exchange(socket: &Socket, attach: &Attach, fds: Vec<Descriptor>) -> std::result::Result<Attached, String> {
    let body = message::encode_first(attach).map_err(|e| e.to_string())?;
    let mut out = Outgoing::new();
    out.push(FIRST, body, fds).map_err(|e| e.to_string())?;
    // A cluster that refuses may have closed already; its reason can be read all the same.
    let sent = out.flush_all(socket);
    let mut decoder = Decoder::new(MAX_FRAME);
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(frame) = decoder.next().map_err(|e| e.to_string())? {
            if frame.kind == REFUSED {
                return Ok(Attached::Refused(String::from_utf8_lossy(&frame.body).into_owned()));
            }
            return message::decode(frame, &mut no_segments).map_err(|e| e.to_string());
        }
        let left = until.saturating_duration_since(Instant::now());
        if !socket.poll_readable(Some(left.as_millis() as u64)).map_err(|e| e.to_string())? {
            return Err(format!("it did not answer within {PATIENCE:?}"));
        }
        let mut fds = Vec::new();
        match socket.recv(decoder.spare_mut(), &mut fds) {
            Ok(0) => {
                return Err(match sent {
                    Ok(()) => "it closed the connection".to_string(),
                    Err(e) => e.to_string(),
                });
            }
            Ok(n) => decoder.advance(n, fds),
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// The connection. Any thread writes to it; one thread reads.
struct Line {
    socket: Socket,
    out: Mutex<Outgoing>,
    pool: SegmentPool,
    attachments: Attachments,
    /// Something comes out of here when segments of others are no longer used.
    released: Socket,
    hung_up: AtomicBool,
}

impl Line {
    fn new(socket: Socket, pool: SegmentPool) -> io::Result<Arc<Self>> {
        let attachments = Attachments::new();
        let (bell, released) = Socket::pair()?;
        // Whoever drops a segment may hold any lock, so it must not send: the reading thread does, once it is woken.
        attachments.set_notifier(Box::new(move || {
            // Full means that it is awake already; closed, that nobody is there to be told.
            let _ = bell.send_nonblocking(&[IoSlice::new(&[1])], &[]);
        }));
        let (out, hung_up) = (Mutex::new(Outgoing::new()), AtomicBool::new(false));
        Ok(Arc::new(Self { socket, out, pool, attachments, released, hung_up }))
    }

    fn write(&self, request: &Request) -> Result<()> {
        let (body, segments) = message::encode(request).map_err(|e| Error::Resource {
            resource: "a message to the local cluster".to_string(),
            reason: format!("{e}; submit fewer large values at once"),
        })?;
        for segment in &segments {
            self.pool.lend(segment);
        }
        let gone = |e: io::Error| Error::Closed { reason: format!("the local cluster is gone: {e}") };
        let mut out = self.out.lock();
        out.push(KIND, body, message::descriptors(segments)).map_err(|e| Error::Resource {
            resource: "a message to the local cluster".to_string(),
            reason: e.to_string(),
        })?;
        out.flush_all(&self.socket).map_err(gone)
    }

    fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        if let Err(e) = shutdown(self.socket.as_raw_fd(), Shutdown::Both) {
            log::debug!("the connection was closed already: {e}");
        }
    }

    /// Waits for something to do: to read (first), to tell of segments (second).
    fn wait(&self) -> io::Result<(bool, bool)> {
        let watched = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut both = [watched(self.socket.as_fd()), watched(self.released.as_fd())];
        match poll(&mut both, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok((both[0].any().unwrap_or(false), both[1].any().unwrap_or(false))),
            Err(e) => Err(e.into()),
        }
    }

    fn tell_released(&self) {
        // Emptied before it is looked what there is, so that nothing is missed.
        while self.released.recv_nonblocking(&mut [0; 64], &mut Vec::new()).is_ok_and(|n| n == 64) {}
        let released = self.attachments.take_released();
        if !released.is_empty()
            && let Err(e) = self.write(&Request::Released(released))
        {
            log::debug!("segments are not given back: {e}");
        }
    }

    /// Reads what is there. None: the connection has ended.
    fn read(&self, decoder: &mut Decoder) -> std::result::Result<Option<Vec<FromCluster>>, String> {
        let mut fds = Vec::new();
        match self.socket.recv(decoder.spare_mut(), &mut fds) {
            Ok(0) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e.to_string()),
            Ok(n) => decoder.advance(n, fds),
        }
        let mut words = Vec::new();
        while let Some(frame) = decoder.next().map_err(|e| e.to_string())? {
            let attach = &mut |id, fd, len| self.attachments.attach(id, fd, len).map_err(|e| e.to_string());
            words.push(message::decode(frame, attach).map_err(|e| e.to_string())?);
        }
        Ok(Some(words))
    }
}

impl Uplink for Arc<Line> {
    fn send(&self, request: Request) -> Result<()> {
        self.write(&request)
    }

    fn close(&self) {
        self.hang_up();
    }
}

/// Brings the cluster's words to the client until one of them ends the connection.
fn listen(line: &Line, remote: &Weak<Remote>, cluster: &str) {
    let mut decoder = Decoder::new(MAX_FRAME);
    let reason = loop {
        let (news, released) = match line.wait() {
            Ok(what) => what,
            Err(e) => break format!("the connection to the local cluster `{cluster}` failed: {e}"),
        };
        if released {
            line.tell_released();
        }
        if !news {
            continue;
        }
        match line.read(&mut decoder) {
            Ok(None) => break format!("the local cluster `{cluster}` is gone"),
            Ok(Some(words)) => {
                let Some(remote) = remote.upgrade() else { return line.hang_up() };
                for FromCluster { done, word } in words {
                    remote.counters.done.fetch_add(done, Ordering::Relaxed);
                    remote.hear(word);
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
