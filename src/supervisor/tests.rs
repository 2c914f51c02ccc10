//! A panic in the core, in each thread that may have it, with real workers: it closes its cluster and nothing else.
#![allow(clippy::unwrap_used)]

mod programs;

use super::actor::{CloseSession, OpenSession, SessionMessage, Stop, Supervisor};
use super::core::provoke::panic_at;
use super::messages::Wake;
use super::{Executable, SharedMemory};
use crate::daemon::{self, paths::ClusterPaths};
use crate::ids::SessionId;
use crate::ipc::frame::Frame;
use crate::ipc::page::PageName;
use crate::ipc::payload::Payload;
use crate::ipc::segment::listing::Shown;
use crate::ipc::testing;
use crate::job::{JobSpec, WireOptions};
use crate::message::{self, Control, Request, ToSession};
use crate::remote::{Description, Remote, Uplink};
use crate::supervisor::actor::FromSocket;
use crate::task::image;
use crate::{Client, Delayed, Error, Mode, Result, delayed, local};
use actix::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn inc(x: i64) -> i64 {
    x + 1
}

/// Does not end by itself, so that it is there to be closed.
fn sleep_long() -> i64 {
    std::thread::sleep(LONG);
    0
}

fn client() -> Client {
    Client::builder().mode(Mode::Processes).workers(2).threads(1).build().unwrap()
}

fn named(step: &str, thread: &str) -> Delayed<i64> {
    delayed(inc).name(panic_at(step, thread)).call(1)
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn comes_true(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LONG, "it does not come true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn tells_the_panic<T>(result: Result<T>) {
    let text = result.err().expect("it has no result").to_string();
    assert!(text.contains("the supervisor panicked: provoked: panic at"), "{text}");
}

/// A client whose core panics by what `provoke` does: all that is under way is closed, whatever thread it was in.
fn closes_the_cluster(provoke: impl FnOnce(&Client) -> Result<i64>) {
    let client = client();
    assert_eq!(delayed(inc).call(1).compute(&client).unwrap(), 2);
    let workers: Vec<u32> = client.workers().unwrap().iter().map(|worker| worker.pid).collect();
    assert_eq!(workers.len(), 2);
    let other = client.submit(&delayed(sleep_long).call()).unwrap();
    tells_the_panic(provoke(&client));
    tells_the_panic(other.result());
    comes_true("the workers have ended", || !workers.iter().copied().any(is_there));
    let refused = client.submit(&delayed(inc).call(1)).err().unwrap();
    assert!(matches!(&refused, Error::Closed { reason } if reason.contains("provoked")), "{refused}");
    assert!(matches!(client.workers().unwrap_err(), Error::Closed { .. }));
    let began = Instant::now();
    drop((client, other));
    assert!(began.elapsed() < Duration::from_secs(8), "a client that is closed goes at once");
    let next = self::client();
    assert_eq!(delayed(inc).call(2).compute(&next).unwrap(), 3);
}

#[test]
fn a_panic_in_the_thread_that_submits() {
    closes_the_cluster(|client| {
        // Where the actor has the core just then, the thread leaves the request to it.
        let began = Instant::now();
        loop {
            let future = client.submit(&named("submission", "another thread"))?;
            let result = future.result();
            if result.is_err() || began.elapsed() > LONG {
                return result;
            }
        }
    });
}

#[test]
fn a_panic_in_the_thread_that_waits_and_polls() {
    closes_the_cluster(|client| {
        // Mostly it is this thread that reads the answer. If not, there is another one.
        let began = Instant::now();
        loop {
            let result = client.submit(&named("completion", "another thread"))?.result();
            if result.is_err() || began.elapsed() > LONG {
                return result;
            }
        }
    });
}

#[test]
fn a_panic_in_the_core_runs_no_hook_of_the_program() {
    testing::run_child(&[], "supervisor::tests::child_with_a_hook");
}

#[test]
#[ignore = "run by a_panic_in_the_core_runs_no_hook_of_the_program"]
fn child_with_a_hook() {
    if !testing::is_child() {
        return;
    }
    static HOOKED: AtomicUsize = AtomicUsize::new(0);
    // It would ask the client, which has the lock that this thread has.
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        HOOKED.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    let error = named("submission", "any thread").compute(&client()).unwrap_err().to_string();
    assert!(error.contains("provoked") && error.contains("provoke.rs:"), "{error}");
    assert_eq!(HOOKED.load(Ordering::SeqCst), 0);
    // It is still there for others.
    assert!(std::panic::catch_unwind(|| panic!("mine")).is_err());
    assert_eq!(HOOKED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_in_the_actor() {
    closes_the_cluster(|client| {
        // So many tasks are left to the actor.
        let mut many: Vec<_> = (0..1000).map(|x| delayed(inc).call(x)).collect();
        many.push(named("submission", "the actor's thread"));
        client.submit_all(&many)?.pop().unwrap().result()
    });
}

#[test]
fn a_panic_in_the_actors_thread_when_it_reads_a_worker() {
    closes_the_cluster(|client| {
        let future = client.submit(&named("completion", "the actor's thread"))?;
        // Nobody polls.
        comes_true("the future is done", || future.is_done());
        future.result()
    });
}

#[test]
fn a_panic_in_a_local_cluster_closes_its_sessions_and_not_the_cluster() {
    let name = format!("panics-{}", std::process::id());
    let (tell, told) = mpsc::channel();
    let options = Client::builder().workers(1).threads(1).name(name);
    let server = std::thread::spawn(move || local::serve(options, |status| tell.send(status.socket.clone()).unwrap()));
    let socket = told.recv_timeout(LONG).unwrap();
    let [one, other] = [Client::connect(&socket).unwrap(), Client::connect(&socket).unwrap()];
    assert_eq!(delayed(inc).call(1).compute(&other).unwrap(), 2);
    let worker = other.workers().unwrap()[0].pid;
    let waits = other.submit(&delayed(sleep_long).call()).unwrap();
    tells_the_panic(named("submission", "any thread").compute(&one));
    tells_the_panic(waits.result());
    comes_true("the worker has ended", || !is_there(worker));
    assert!(matches!(one.workers().unwrap_err(), Error::Closed { .. }));
    let next = Client::connect(&socket).unwrap();
    assert_eq!(delayed(inc).call(2).compute(&next).unwrap(), 3);
    drop((one, other, next));
    // The function that operators use waits for the end of the process, which is this one.
    daemon::connect::control(&ClusterPaths::of(&socket).unwrap(), Control::Stop, crate::daemon::connect::PATIENCE)
        .unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn a_panic_beside_the_core_closes_the_cluster_too() {
    let settings = Client::builder().mode(Mode::Processes).workers(1).threads(1).settings().unwrap();
    let shared = SharedMemory::new(&settings).unwrap();
    System::new().block_on(async move {
        let pool = shared.pool.clone();
        let build = image::build_id().clone();
        let supervisor = Supervisor::of_build(settings, Executable::Own, build, shared).unwrap();
        let shared_core = Arc::clone(&supervisor.shared_core);
        let fast_path = supervisor.open();
        let client = Remote::new(Box::new(Nowhere), SessionId::CLIENT, pool, Description::new(String::new(), None));
        fast_path.belongs_to(&client);
        client.check_open().unwrap();
        let none = shared_core.around(|| {
            let _turn = shared_core.turn();
            panic!("provoked beside the core")
        });
        assert_eq!(none, None::<()>);
        fast_path.supervisor.do_send(Wake);
        let until = Instant::now() + LONG;
        while fast_path.supervisor.connected() || client.check_open().is_ok() {
            assert!(Instant::now() < until, "the client is told, and the actor stops when its worker has ended");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
        let reason = client.check_open().unwrap_err().to_string();
        assert!(reason.contains("the supervisor panicked: provoked beside the core"), "{reason}");
    });
}

/// What a session behind a socket is told.
struct Ear(mpsc::Sender<ToSession>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<SessionMessage> for Ear {
    type Result = ();

    fn handle(&mut self, msg: SessionMessage, _: &mut Context<Self>) {
        let _ = self.0.send(msg.0);
    }
}

/// A request as it comes from a socket: given values, of which one has that name.
pub(crate) fn request(number: u32, name: Option<String>) -> Frame {
    let mut spec = JobSpec {
        body_ends: vec![0],
        dep_ends: vec![0],
        data: vec![(0, Payload::inline(&[7]))],
        outputs: vec![crate::job::WantedResult { index: 0, deliver: true }],
        ..JobSpec::default()
    };
    if name.is_some() {
        spec.options.push((0, WireOptions { name, ..WireOptions::default() }));
    }
    let (mut body, _) = message::encode(&Request::Submit { number, spec }).unwrap();
    Shown::default().append(&mut body, &[]);
    Frame { kind: message::KIND, body, fds: Vec::new() }
}

/// A way to the supervisor that nobody goes.
struct Nowhere;

impl Uplink for Nowhere {
    fn send(&self, _: Request) -> Result<()> {
        Ok(())
    }

    fn close(&self) {}
}

#[test]
fn who_comes_after_a_panic_is_told_of_it() {
    let settings = Client::builder().mode(Mode::Processes).workers(1).threads(1).settings().unwrap();
    let shared = SharedMemory::new(&settings).unwrap();
    System::new().block_on(async move {
        let (build, pool) = (image::build_id().clone(), shared.pool.clone());
        let supervisor = Supervisor::of_build(settings, Executable::Own, build, shared).unwrap();
        // A client finds the core as long as it is there.
        let shared_core = Arc::clone(&supervisor.shared_core);
        let fast_path = supervisor.open();
        let supervisor = &fast_path.supervisor;
        let frames = vec![request(1, Some(panic_at("submission", "any thread")))];
        let panics = supervisor.send(FromSocket { session: SessionId(1), frames });
        let (tell, told) = mpsc::channel();
        supervisor.do_send(OpenSession { session: SessionId(2), link: Ear(tell).start().recipient() });
        assert!(panics.await.unwrap().is_err());
        let client =
            || Remote::new(Box::new(Nowhere), SessionId::CLIENT, pool.clone(), Description::new(String::new(), None));
        let (late, later) = (client(), client());
        fast_path.belongs_to(&late);
        let reason = |client: &Remote| client.check_open().unwrap_err().to_string();
        assert!(reason(&late).contains("provoked"), "{}", reason(&late));
        let until = Instant::now() + LONG;
        while supervisor.connected() {
            assert!(Instant::now() < until, "the actor stops when its workers have ended");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
        let closed =
            told.try_iter().any(|m| matches!(m, ToSession::Closed { reason, .. } if reason.contains("provoked")));
        assert!(closed);
        drop(shared_core);
        fast_path.belongs_to(&later);
        assert!(reason(&later).contains("ended while it started"), "{}", reason(&later));
    });
}

/// As for programs of two builds in a local cluster: two supervisors in one event loop.
#[test]
fn a_panic_of_one_build_leaves_the_other_builds_alone() {
    let settings = Client::builder().mode(Mode::Processes).workers(1).threads(1).settings().unwrap();
    let shared = SharedMemory::new(&settings).unwrap();
    System::new().block_on(async move {
        let start = || {
            let shared = SharedMemory { pages: PageName::new().unwrap(), ..shared.clone() };
            let build = image::build_id().clone();
            let supervisor = Supervisor::of_build(settings.clone(), Executable::Own, build, shared).unwrap().start();
            let (tell, told) = mpsc::channel();
            let session = SessionId(1);
            supervisor.do_send(OpenSession { session, link: Ear(tell).start().recipient() });
            (supervisor, told)
        };
        let ((broken, told), (sound, heard)) = (start(), start());
        let send =
            |to: &Addr<Supervisor>, name| to.send(FromSocket { session: SessionId(1), frames: vec![request(1, name)] });
        let answer = send(&broken, Some(panic_at("submission", "any thread"))).await.unwrap();
        assert!(answer.unwrap_err().contains("panicked"));
        let until = Instant::now() + LONG;
        while broken.connected() {
            assert!(Instant::now() < until, "an actor whose core has panicked stops when its workers have ended");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
        let closed =
            told.try_iter().any(|m| matches!(m, ToSession::Closed { reason, .. } if reason.contains("provoked")));
        assert!(closed);
        send(&sound, None).await.unwrap().unwrap();
        while !heard.try_iter().any(|m| matches!(m, ToSession::Deliveries(all) if !all.is_empty())) {
            assert!(Instant::now() < until, "the other goes on");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
        sound.do_send(CloseSession(SessionId(1)));
        sound.do_send(Stop);
        while sound.connected() {
            assert!(Instant::now() < until, "and stops when it is told to");
            actix_rt::time::sleep(Duration::from_millis(2)).await;
        }
    });
}
