//! The cluster's own process: an actor that lets programs in and keeps supervisors for them.

use super::commands::obey;
use super::connect::FIRST_WORD;
use super::executable;
use super::paths::ClusterPaths;
use super::recording::ClusterRecording;
use super::session::Session;
use crate::events::ClientLog;
use crate::host::report;
use crate::ids::ATTACHED_OWNERS;
use crate::ids::SessionId;
use crate::ipc::clock::Clock;
use crate::ipc::frame::Decoder;
use crate::ipc::page::{ControlPage, PageName};
use crate::ipc::socket::Socket;
use crate::message;
use crate::message::{Attach, Attached, REFUSED};
use crate::settings::Settings;
use crate::settings::WorkerHooks;
use crate::status::ClusterStatus;
use crate::status::ProgramStatus;
use crate::supervisor::Executable;
use crate::supervisor::PublishedNames;
use crate::supervisor::SharedMemory;
use crate::supervisor::actor::CloseSession;
use crate::supervisor::actor::Drain;
use crate::supervisor::actor::Health;
use crate::supervisor::actor::OpenSession;
use crate::supervisor::actor::RestartAll;
use crate::supervisor::actor::ScaleTo;
use crate::supervisor::actor::Stop;
use crate::supervisor::actor::Supervisor;
use crate::supervisor::actor::TellCounts;
use crate::supervisor::connection::Connection;
use crate::task::image::BuildId;
use crate::units::HumanBytes;
use actix::prelude::*;
use nix::unistd::geteuid;
use rustc_hash::FxHashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UnixListener;

/// Longest first word.
const FIRST_FRAME: u64 = 1 << 20;
/// How long workers are kept for a program that has left: the next run of it finds them warm.
const KEEP: Duration = Duration::from_secs(5);
/// How often tasks are counted for a recording.
const COUNTED: Duration = Duration::from_secs(1);
/// A look that comes so much late has been held up with everything else.
const LATE: Duration = Duration::from_secs(1);
/// Sessions are numbered below this; above are those of tasks.
const SESSIONS: u32 = 1 << 30;

pub(crate) struct Daemon {
    paths: ClusterPaths,
    settings: Settings,
    shared: SharedMemory,
    began: Instant,
    started: (Clock, SystemTime),
    /// Where all programs are recorded.
    recording: Option<Arc<ClusterRecording>>,
    groups: Vec<BuildGroup>,
    /// Supervisors that have been told to stop, or whose core has panicked.
    leaving: Vec<Addr<Supervisor>>,
    sessions: FxHashMap<SessionId, Arc<ControlPage>>,
    connections: FxHashMap<SessionId, Arc<Connection>>,
    next_session: u32,
    /// Nobody is let in any more.
    draining: bool,
    stopping: bool,
}

/// The programs of one build which have their workers do the same first and last, and these workers.
struct BuildGroup {
    build: BuildId,
    hooks: WorkerHooks,
    program: String,
    supervisor: Addr<Supervisor>,
    health: Health,
    /// What its programs have published.
    names: PublishedNames,
    sessions: Vec<SessionId>,
    /// Since when there is none.
    idle: Instant,
}

/// A program wants to run tasks.
#[derive(Message)]
#[rtype(result = "std::result::Result<Admitted, String>")]
struct Admit {
    build: BuildId,
    hooks: WorkerHooks,
    program: String,
    executable: OwnedFd,
}

/// What it is told, and who takes its words.
struct Admitted {
    welcome: Attached,
    session: SessionId,
    supervisor: Addr<Supervisor>,
}

/// A session has this connection.
#[derive(Message)]
#[rtype(result = "()")]
struct Opened(SessionId, Arc<Connection>);

/// The connection of a session has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Left(pub(crate) SessionId);

#[derive(Message)]
#[rtype(result = "Overview")]
pub(super) struct GetOverview;

#[derive(MessageResponse)]
pub(super) struct Overview {
    pub(super) status: ClusterStatus,
    pub(super) supervisors: Vec<Addr<Supervisor>>,
    /// By whose clock what they have recorded is dated.
    pub(super) log: ClientLog,
}

/// How the programs are recorded.
#[derive(Message)]
#[rtype(result = "HowRecorded")]
pub(super) struct GetRecording;

#[derive(MessageResponse)]
pub(super) struct HowRecorded {
    pub(super) recording: Option<Arc<ClusterRecording>>,
    /// The programs that are there, with their supervisors.
    pub(super) programs: Vec<(String, Addr<Supervisor>)>,
    /// When the cluster was started.
    pub(super) started: (Clock, SystemTime),
}

/// The supervisor of the programs of a build, as the status shows that.
#[derive(Message)]
#[rtype(result = "Option<Addr<Supervisor>>")]
pub(super) struct SupervisorOf(pub(super) String);

#[derive(Message)]
#[rtype(result = "std::result::Result<(), String>")]
pub(super) struct Scale(pub(super) usize);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Restart;

/// Lets no program and no graph in any more; the answer is who may have some under way.
#[derive(Message)]
#[rtype(result = "Draining")]
pub(super) struct LetNobodyIn;

#[derive(MessageResponse)]
pub(super) struct Draining {
    pub(super) supervisors: Vec<Addr<Supervisor>>,
    /// Whether programs have been sent all that was to be sent.
    pub(super) flushed: bool,
}

/// Lets nobody in any more and stops the supervisors; the answer is those to wait for.
#[derive(Message)]
#[rtype(result = "Leaving")]
pub(super) struct End;

#[derive(MessageResponse)]
pub(super) struct Leaving(pub(super) Vec<Addr<Supervisor>>);

impl Daemon {
    pub(super) fn new(
        paths: ClusterPaths,
        settings: Settings,
        shared: SharedMemory,
        recording: Option<Arc<ClusterRecording>>,
    ) -> Self {
        Self {
            paths,
            settings,
            shared,
            began: Instant::now(),
            recording,
            started: (Clock::start(), SystemTime::now()),
            groups: Vec::new(),
            leaving: Vec::new(),
            sessions: FxHashMap::default(),
            connections: FxHashMap::default(),
            next_session: 1,
            draining: false,
            stopping: false,
        }
    }

    pub(super) fn status(&self) -> ClusterStatus {
        ClusterStatus {
            name: self.paths.name.clone(),
            pid: std::process::id(),
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            socket: self.paths.socket.clone(),
            directory: std::env::current_dir().unwrap_or_default(),
            machine: self.settings.machine.clone(),
            workers: self.settings.workers,
            threads: self.settings.threads,
            memory_limit: self.settings.memory_limit,
            total_memory_limit: self.settings.total_memory,
            shared_memory_limit: self.shared.ledger.limit(),
            shared_memory_used: self.shared.ledger.used(),
            draining: self.draining,
            record: self.recording.as_ref().map(|recording| recording.path.clone()),
            programs: self
                .groups
                .iter()
                .map(|group| ProgramStatus {
                    program: group.program.clone(),
                    build: group.build.to_string(),
                    sessions: group.sessions.len(),
                    unfinished: 0,
                    workers: Vec::new(),
                    deaths: Vec::new(),
                    shared: Vec::new(),
                })
                .collect(),
        }
    }

    /// The supervisor for programs of that build.
    fn group(&mut self, admit: &Admit) -> std::result::Result<usize, String> {
        // One whose core has panicked goes on until its workers have ended, but it is of no use to anybody.
        let of_use = |group: &BuildGroup| group.supervisor.connected() && group.health.is_sound();
        for group in self.groups.extract_if(.., |group| !of_use(group)) {
            group.names.free_all();
            self.leaving.extend(Some(group.supervisor).filter(Addr::connected));
        }
        if let Some(known) =
            self.groups.iter().position(|group| group.build == admit.build && group.hooks == admit.hooks)
        {
            return Ok(known);
        }
        let duplicate = admit.executable.try_clone().map_err(|e| e.to_string())?;
        let program = Executable::Of(Arc::new(duplicate));
        let pages = PageName::new().map_err(|e| e.to_string())?;
        let names = self.shared.names.for_another(&admit.build.to_string());
        let sources = self.recording.as_ref().map(|recording| recording.program(&admit.program)).unwrap_or_default();
        let shared = SharedMemory { pages, names: names.clone(), sources, ..self.shared.clone() };
        let settings = Settings { hooks: admit.hooks, ..self.settings.clone() };
        let supervisor =
            Supervisor::of_build(settings, program, admit.build.clone(), shared).map_err(|e| e.to_string())?;
        report!(Info, "starting {} worker(s) for `{}`, build {}", self.settings.workers, admit.program, admit.build);
        let (build, hooks, program) = (admit.build.clone(), admit.hooks, admit.program.clone());
        let health = supervisor.health();
        let (supervisor, sessions, idle) = (supervisor.start(), Vec::new(), Instant::now());
        self.groups.push(BuildGroup { build, hooks, program, supervisor, health, names, sessions, idle });
        Ok(self.groups.len() - 1)
    }

    /// Looks, when they have been idle for long enough, which workers nobody needs. Where this process was stopped meanwhile,
    /// programs were, too, and could not come: the time counts anew.
    fn retire_later(ctx: &mut Context<Self>) {
        let after = KEEP + Duration::from_millis(10);
        let due = Instant::now() + after;
        ctx.run_later(after, move |cluster, ctx| {
            if due.elapsed() <= LATE {
                return cluster.retire();
            }
            cluster.groups.iter_mut().for_each(|group| group.idle = Instant::now());
            Self::retire_later(ctx);
        });
    }

    /// Has the tasks of all programs counted for the recording.
    fn tell_counts(&self) {
        if self.recording.is_some() {
            self.groups.iter().for_each(|group| group.supervisor.do_send(TellCounts));
        }
    }

    /// Stops the workers of builds whose programs have been away for a while, and have published nothing.
    fn retire(&mut self) {
        self.leaving.retain(Addr::connected);
        let idle = |group: &mut BuildGroup| {
            group.sessions.is_empty() && group.idle.elapsed() >= KEEP && group.names.is_empty()
        };
        for group in self.groups.extract_if(.., idle) {
            report!(Info, "stopping the workers of `{}`, build {}: no program uses them", group.program, group.build);
            group.supervisor.do_send(Stop);
            self.leaving.push(group.supervisor);
        }
    }
}

impl Actor for Daemon {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.recording.is_some() {
            ctx.run_interval(COUNTED, |cluster, _| cluster.tell_counts());
        }
    }
}

impl Handler<Admit> for Daemon {
    type Result = std::result::Result<Admitted, String>;

    fn handle(&mut self, msg: Admit, ctx: &mut Context<Self>) -> Self::Result {
        if self.stopping || self.draining {
            let why = if self.stopping { "" } else { ": it lets nobody in, and ends when no graph is under way" };
            return Err(format!("it is stopping{why}"));
        }
        executable::check(&msg.executable, &msg.build)?;
        if self.next_session == SESSIONS {
            return Err("it has had too many sessions; stop it and start it again".to_string());
        }
        let at = self.group(&msg)?;
        let id = SessionId(self.next_session);
        let page = ControlPage::create(&self.shared.pages.sibling(id.0), 0).map_err(|e| {
            // The supervisor may have been started for this program alone.
            Self::retire_later(ctx);
            e.to_string()
        })?;
        self.next_session += 1;
        let welcome = Attached::Welcome {
            session: id,
            owner: ATTACHED_OWNERS + id.0,
            supervisor_page: self.shared.page.name().clone(),
            own_page: page.name().clone(),
            settings: Box::new(self.settings.clone()),
        };
        self.sessions.insert(id, Arc::new(page));
        let group = &mut self.groups[at];
        group.sessions.push(id);
        report!(Info, "session {}: `{}` has connected", id.0, msg.program);
        Ok(Admitted { welcome, session: id, supervisor: group.supervisor.clone() })
    }
}

impl Handler<Left> for Daemon {
    type Result = ();

    fn handle(&mut self, Left(id): Left, ctx: &mut Context<Self>) {
        let Some(page) = self.sessions.remove(&id) else { return };
        self.connections.remove(&id);
        report!(Info, "session {} has ended", id.0);
        self.shared.ledger.forgive(&page);
        for group in &mut self.groups {
            if let Some(at) = group.sessions.iter().position(|s| *s == id) {
                group.sessions.swap_remove(at);
                group.idle = Instant::now();
                group.supervisor.do_send(CloseSession(id));
            }
        }
        Self::retire_later(ctx);
    }
}

impl Handler<GetOverview> for Daemon {
    type Result = Overview;

    fn handle(&mut self, _: GetOverview, _: &mut Context<Self>) -> Overview {
        let supervisors = self.groups.iter().map(|group| group.supervisor.clone()).collect();
        Overview { status: self.status(), supervisors, log: ClientLog::started_at(self.started) }
    }
}

impl Handler<GetRecording> for Daemon {
    type Result = HowRecorded;

    fn handle(&mut self, _: GetRecording, _: &mut Context<Self>) -> HowRecorded {
        let program = |group: &BuildGroup| (group.program.clone(), group.supervisor.clone());
        let (recording, programs) = (self.recording.clone(), self.groups.iter().map(program).collect());
        HowRecorded { recording, programs, started: self.started }
    }
}

impl Handler<SupervisorOf> for Daemon {
    type Result = Option<Addr<Supervisor>>;

    fn handle(&mut self, SupervisorOf(build): SupervisorOf, _: &mut Context<Self>) -> Self::Result {
        self.groups.iter().find(|group| group.build.to_string() == build).map(|group| group.supervisor.clone())
    }
}

impl Handler<LetNobodyIn> for Daemon {
    type Result = Draining;

    fn handle(&mut self, _: LetNobodyIn, _: &mut Context<Self>) -> Draining {
        if !std::mem::replace(&mut self.draining, true) {
            self.groups.iter().for_each(|group| group.supervisor.do_send(Drain));
        }
        Draining {
            supervisors: self.groups.iter().map(|group| group.supervisor.clone()).collect(),
            flushed: self.connections.values().all(|connection| connection.is_flushed()),
        }
    }
}

impl Handler<Opened> for Daemon {
    type Result = ();

    fn handle(&mut self, Opened(id, connection): Opened, _: &mut Context<Self>) {
        // It may have ended already.
        if self.sessions.contains_key(&id) {
            self.connections.insert(id, connection);
        }
    }
}

impl Handler<Scale> for Daemon {
    type Result = std::result::Result<(), String>;

    fn handle(&mut self, Scale(n): Scale, _: &mut Context<Self>) -> Self::Result {
        if let Some((total, each)) = self.settings.total_memory.zip(self.settings.memory_limit) {
            let programs = self.groups.len().max(1);
            if each.saturating_mul((n * programs) as u64) > total {
                let (total, each) = (HumanBytes(total), HumanBytes(each));
                return Err(format!("{n} workers of {each} for each of {programs} program(s) are more than {total}"));
            }
        }
        self.settings.workers = n;
        self.settings.tags.resize(n, Vec::new());
        self.groups.iter().for_each(|group| group.supervisor.do_send(ScaleTo(n)));
        Ok(())
    }
}

impl Handler<Restart> for Daemon {
    type Result = ();

    fn handle(&mut self, _: Restart, _: &mut Context<Self>) {
        self.groups.iter().for_each(|group| group.supervisor.do_send(RestartAll));
    }
}

impl Handler<End> for Daemon {
    type Result = Leaving;

    fn handle(&mut self, _: End, _: &mut Context<Self>) -> Leaving {
        self.stopping = true;
        if let Err(e) = std::fs::remove_file(&self.paths.socket)
            && e.kind() != io::ErrorKind::NotFound
        {
            report!(Warn, "{} cannot be removed: {e}", self.paths.socket.display());
        }
        self.tell_counts();
        for group in self.groups.drain(..) {
            group.supervisor.do_send(Stop);
            self.leaving.push(group.supervisor);
        }
        Leaving(self.leaving.clone())
    }
}

pub(super) async fn accept(listener: UnixListener, cluster: Addr<Daemon>) {
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let cluster = cluster.clone();
                actix::spawn(async move { greet(Socket::from(OwnedFd::from(stream)), cluster).await });
            }
            Err(e) => {
                report!(Error, "a program cannot be let in: {e}; raise `ulimit -n` if that is the reason");
                actix_rt::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether a process of that user may come in.
fn admits(uid: u32) -> std::result::Result<(), String> {
    match geteuid().as_raw() {
        us if us == uid => Ok(()),
        us => Err(format!("a process of user {uid} tried to connect; this is user {us}'s")),
    }
}

/// Finds out who has connected, and what for.
async fn greet(socket: Socket, cluster: Addr<Daemon>) {
    let came = socket.peer_uid().map_err(|e| e.to_string()).and_then(admits);
    let connection = match came.and_then(|()| Connection::new(socket).map_err(|e| e.to_string())) {
        Ok(connection) => connection,
        // Not a word to strangers.
        Err(reason) => return report!(Warn, "a connection was closed: {reason}"),
    };
    let first = tokio::time::timeout(FIRST_WORD, first_word(&connection)).await;
    let first = first.unwrap_or_else(|_| Err(format!("it said nothing within {FIRST_WORD:?}")));
    let refused = match first {
        Ok(None) => return,
        Ok(Some((Attach::Control(command), _))) => return obey(command, &connection, &cluster).await,
        Ok(Some((Attach::Program { build, name, hooks }, Some(executable)))) => {
            match cluster.send(Admit { build, hooks, program: name, executable }).await {
                Ok(Ok(admitted)) => return open(connection, admitted, cluster),
                Ok(Err(reason)) => reason,
                Err(e) => e.to_string(),
            }
        }
        Ok(Some((Attach::Program { .. }, None))) => "it did not send its executable".to_string(),
        Err(reason) => reason,
    };
    report!(Warn, "a connection was refused: {refused}");
    if let Err(e) = connection.send_frame(REFUSED, refused.into_bytes(), Vec::new()) {
        report!(Debug, "it was not told: {e}");
    }
}

/// The first frame. None: the connection ended without one.
async fn first_word(connection: &Connection) -> std::result::Result<Option<(Attach, Option<OwnedFd>)>, String> {
    let mut decoder = Decoder::new(FIRST_FRAME);
    let Some(frames) = connection.receive(&mut decoder).await? else {
        return decoder.finish().map(|()| None).map_err(|e| e.to_string());
    };
    decoder.finish().map_err(|e| e.to_string())?;
    let mut frames = frames.into_iter();
    let (Some(mut frame), None) = (frames.next(), frames.next()) else {
        return Err("it went on before it was answered".to_string());
    };
    let mut fds = std::mem::take(&mut frame.fds).into_iter();
    let (fd, None) = (fds.next(), fds.next()) else { return Err("it sent more than its executable".to_string()) };
    Ok(Some((message::decode_first(frame)?, fd)))
}

fn open(connection: Arc<Connection>, admitted: Admitted, cluster: Addr<Daemon>) {
    let Admitted { welcome, session: id, supervisor } = admitted;
    if let Err(e) = connection.send(&welcome) {
        report!(Error, "session {} cannot be welcomed: {e}", id.0);
        return cluster.do_send(Left(id));
    }
    cluster.do_send(Opened(id, Arc::clone(&connection)));
    let session = Session { id, connection, supervisor: supervisor.clone(), cluster }.start();
    supervisor.do_send(OpenSession { session: id, link: session.recipient() });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::supervisor::actor::FromSocket;
    use crate::supervisor::core::provoke::panic_at;
    use crate::supervisor::tests::request;
    use crate::task::image;
    use crate::{Client, Mode};

    #[test]
    fn only_our_own_user_comes_in() {
        let us = geteuid().as_raw();
        admits(us).unwrap();
        assert!(admits(us + 1).unwrap_err().contains(&format!("user {}", us + 1)));
    }

    #[test]
    fn nobody_is_let_in_to_a_supervisor_whose_core_has_panicked() {
        let settings = Client::builder().mode(Mode::Processes).workers(1).threads(1).settings().unwrap();
        let (paths, shared) = (ClusterPaths::named("unused").unwrap(), SharedMemory::new(&settings).unwrap());
        System::new().block_on(async move {
            let mut daemon = Daemon::new(paths, settings, shared, None);
            let executable = std::fs::File::open("/proc/self/exe").unwrap().into();
            let admit = Admit {
                build: image::build_id().clone(),
                hooks: WorkerHooks::default(),
                program: "program".to_string(),
                executable,
            };
            let mut group = || {
                let at = daemon.group(&admit).unwrap();
                daemon.groups[at].supervisor.clone()
            };
            let broken = group();
            assert_eq!(group(), broken, "programs of a build have one supervisor");
            let frames = vec![request(1, Some(panic_at("submission", "any thread")))];
            assert!(broken.send(FromSocket { session: SessionId(1), frames }).await.unwrap().is_err());
            let next = group();
            assert_ne!(next, broken);
            assert!(daemon.leaving.contains(&broken), "the cluster waits for its end when it stops");
            next.do_send(Stop);
            let until = Instant::now() + Duration::from_secs(60);
            while [&next, &broken].into_iter().any(Addr::connected) {
                assert!(Instant::now() < until, "both end");
                actix_rt::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
}
