//! A local cluster and the programs that share it. This process tells the programs what to do and does the harm.

use super::faults::{Deck, Rng, pause, slow_down};
use super::work::{Kept, Work, fill, is_lost, keep};
use crate::common::{LONG, comes_true, directory, is_alive, pages_of, role, said, say, send_signal, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use swath::local::{self, ClusterStatus};
use swath::status::WorkerInfo;
use swath::{Client, Error};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    KillWorker,
    CrashWorker,
    StopWorker,
    SlowWorker,
    FillWorker,
    Restart,
    Scale,
    KillProgram,
    SlowProgram,
    KillCluster,
    SlowCluster,
}

use Fault::*;
const FAULTS: &[Fault] = &[
    KillWorker,
    CrashWorker,
    StopWorker,
    SlowWorker,
    FillWorker,
    Restart,
    Scale,
    KillProgram,
    SlowProgram,
    KillCluster,
    SlowCluster,
];

const NAME: &str = "soak";
const PROGRAMS: usize = 3;
/// In the environment of a cluster and all its workers: which cluster it is.
const MARK: &str = "SWATH_SOAK_CLUSTER";

/// The role of a cluster.
pub fn cluster() {
    let options = Client::builder()
        .name(NAME)
        .workers(2)
        .threads(2)
        .memory_limit("100MB")
        .allowed_deaths(1000)
        .worker_timeout(Duration::from_millis(400))
        .spill_directory(std::env::temp_dir());
    local::serve(options, |_| say("ready")).unwrap();
}

/// The role of a program: does what its standard input says, line by line, and says how it went.
pub fn program() {
    let connect = || Client::connect(NAME).unwrap();
    let (mut client, mut kept) = (connect(), Kept::default());
    say("ready");
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let done = match *line.split(' ').collect::<Vec<_>>() {
            ["round", seed] => round(&client, Rng(seed.parse().unwrap()), &mut kept),
            ["fill"] => fill(&client),
            ["forget"] => {
                kept = Kept::default();
                Ok(())
            }
            ["connect"] => {
                kept = Kept::default();
                client = connect();
                Ok(())
            }
            _ => panic!("{line}"),
        };
        match done {
            Ok(()) => say("right"),
            Err(error) if is_lost(&error) => say("lost"),
            Err(error) => panic!("{line}: {error}"),
        }
    }
}

fn round(client: &Client, mut rng: Rng, kept: &mut Kept) -> Result<(), Error> {
    if kept.is_empty() {
        // All programs together have more than fits into the memory of two workers.
        *kept = keep(client, 12)?;
    }
    let works = (0..1 + rng.below(3)).map(|_| Work::submit(client, &mut rng, kept)).collect::<Result<Vec<_>, _>>()?;
    works.into_iter().try_for_each(|work| work.check(client, "in a program"))
}

/// A process that plays a role, and what it says. It is killed with its owner.
struct Actor {
    child: Child,
    words: Receiver<String>,
}

impl Actor {
    fn start(place: &Place, name: &str, mark: &str) -> Self {
        let mut child = role("soak_child", name)
            .env("XDG_RUNTIME_DIR", &place.runtime)
            .env("TMPDIR", &place.temporary)
            .env(MARK, mark)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, words) = channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                said(&line).into_iter().for_each(|word| drop(tell.send(word)));
            }
        });
        Self { child, words }
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    fn hear(&self) -> String {
        // Longer than it waits itself.
        match self.words.recv_timeout(3 * LONG) {
            Ok(word) => word,
            Err(e) => panic!("process {} gives no answer: {e}", self.child.id()),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where everything lies that clusters and programs make.
struct Place {
    runtime: PathBuf,
    temporary: PathBuf,
}

impl Place {
    fn socket(&self) -> PathBuf {
        self.runtime.join(format!("swath/{NAME}.sock"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let listed = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path());
        listed(self.runtime.join("swath")).chain(listed(self.temporary.clone())).collect()
    }
}

/// What a process is doing, for a failure to tell.
fn describe(pid: u32) -> String {
    let line = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = line("status");
    let of = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_string();
    format!("{pid} {} {} {} {}", line("comm").trim(), of("State"), of("Threads"), line("wchan"))
}

/// The living processes of a cluster.
fn processes_of(mark: &str) -> Vec<u32> {
    let variable = format!("{MARK}={mark}");
    let all = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let is_of = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|v| v == variable.as_bytes())
    };
    all.filter(|pid| is_alive(*pid)).filter(is_of).collect()
}

/// The descriptors that a process has open.
fn descriptors_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A program, and how many answers it owes.
struct Program {
    actor: Actor,
    owes: usize,
}

impl Program {
    fn start(place: &Place) -> Self {
        let actor = Actor::start(place, "program", "none");
        assert_eq!(actor.hear(), "ready");
        Self { actor, owes: 0 }
    }

    fn tell(&mut self, what: &str) {
        self.actor.tell(what);
        self.owes += 1;
    }

    /// The answers that it owes.
    fn answers(&mut self) -> Vec<String> {
        (0..std::mem::take(&mut self.owes)).map(|_| self.actor.hear()).collect()
    }
}

struct Soak {
    place: Place,
    cluster: Actor,
    /// The descriptors of the cluster before any program had come.
    descriptors: usize,
    /// How many clusters there have been.
    clusters: usize,
    programs: Vec<Program>,
    rounds: usize,
    /// What was done in this round.
    faults: Vec<Fault>,
}

fn start_cluster(place: &Place, number: usize) -> (Actor, usize) {
    let cluster = Actor::start(place, "cluster", &mark(number));
    assert_eq!(cluster.hear(), "ready");
    let descriptors = descriptors_of(cluster.child.id());
    (cluster, descriptors)
}

fn mark(number: usize) -> String {
    format!("{}-{number}", std::process::id())
}

impl Soak {
    fn start(place: Place) -> Self {
        let (cluster, descriptors) = start_cluster(&place, 0);
        let programs = (0..PROGRAMS).map(|_| Program::start(&place)).collect();
        Self { place, cluster, descriptors, clusters: 0, programs, rounds: 0, faults: Vec::new() }
    }

    fn status(&self) -> ClusterStatus {
        local::status(self.place.socket()).unwrap()
    }

    fn workers(&self) -> Vec<u32> {
        self.status().programs.iter().flat_map(|p| p.workers.iter().map(|w| w.pid)).collect()
    }

    /// Kills the cluster, and starts another of that name at once.
    fn replace_cluster(&mut self) {
        let old = self.cluster.child.id();
        self.cluster.kill();
        self.clusters += 1;
        (self.cluster, self.descriptors) = start_cluster(&self.place, self.clusters);
        self.no_process_of(self.clusters - 1);
        assert_eq!(pages_of(old), [""; 0]);
    }

    fn no_process_of(&self, cluster: usize) {
        let left = || processes_of(&mark(cluster));
        assert!(comes_true(LONG, || left().is_empty()), "{:?}", left().into_iter().map(describe).collect::<Vec<_>>());
    }

    fn harm(&mut self, fault: Fault, rng: &mut Rng) {
        let to_worker = matches!(fault, KillWorker | CrashWorker | StopWorker | SlowWorker);
        let worker = rng.one_of(&if to_worker { self.workers() } else { Vec::new() });
        let program = &mut self.programs[rng.below(PROGRAMS)];
        match (fault, worker) {
            (KillWorker, Some(pid)) => send_signal(pid, Signal::SIGKILL),
            (CrashWorker, Some(pid)) => send_signal(pid, Signal::SIGSEGV),
            (StopWorker, Some(pid)) => send_signal(pid, Signal::SIGSTOP),
            (SlowWorker, Some(pid)) => slow_down(pid),
            (KillWorker | CrashWorker | StopWorker | SlowWorker, None) => {}
            (FillWorker, _) => program.tell("fill"),
            (Restart, _) => local::restart(self.place.socket()).unwrap(),
            (Scale, _) => local::scale(self.place.socket(), 1 + rng.below(3)).unwrap(),
            (KillProgram, _) => {
                program.actor.kill();
                *program = Program::start(&self.place);
            }
            (SlowProgram, _) => slow_down(program.actor.child.id()),
            (KillCluster, _) => self.replace_cluster(),
            (SlowCluster, _) => slow_down(self.cluster.child.id()),
        }
    }

    fn tell_all(&mut self, what: &str) {
        self.programs.iter_mut().for_each(|program| program.tell(what));
        for program in &mut self.programs {
            assert_eq!(program.answers(), ["right"], "{what}");
        }
    }

    fn round(&mut self, rng: &mut Rng, deck: &mut Deck<Fault>) {
        self.rounds += 1;
        self.faults.clear();
        for program in &mut self.programs {
            program.tell(&format!("round {}", rng.next()));
        }
        let cluster = self.clusters;
        for _ in 0..rng.below(4) {
            pause(rng);
            let fault = deck.draw(rng);
            self.faults.push(fault);
            self.harm(fault, rng);
        }
        let replaced = self.clusters > cluster;
        for program in &mut self.programs {
            for answer in program.answers() {
                assert!(answer == "right" || answer == "lost" && replaced, "{answer}");
            }
        }
        if replaced {
            self.tell_all("connect");
        }
        if self.faults.contains(&KillProgram) {
            self.tell_all("forget");
            self.nothing_is_kept();
        }
    }

    /// Of programs that were killed nothing is left: no session, no task, no result.
    fn nothing_is_kept(&self) {
        // One that is stopped and has nothing to do is not replaced, and cannot drop anything.
        self.workers().into_iter().for_each(|pid| send_signal(pid, Signal::SIGCONT));
        until("nothing is kept of a killed program", || {
            let programs = self.status().programs;
            let idle = |w: &WorkerInfo| w.tasks == 0 && w.managed == 0 && w.spilled == 0;
            programs.iter().map(|p| p.sessions).sum::<usize>() == self.programs.len()
                && programs.iter().flat_map(|p| &p.workers).all(idle)
        });
    }

    /// All programs are killed, and the cluster is stopped.
    fn end(mut self) {
        self.faults.clear();
        self.programs.iter_mut().for_each(|program| program.actor.kill());
        let cluster = self.cluster.child.id();
        until("all is given back", || {
            let status = self.status();
            status.programs.is_empty() && status.shared_memory_used == 0
        });
        until("no descriptor is kept", || descriptors_of(cluster) <= self.descriptors);
        local::stop(self.place.socket()).unwrap();
        assert!(self.cluster.child.wait().unwrap().success());
        self.no_process_of(self.clusters);
        assert_eq!(pages_of(cluster), [""; 0]);
        assert!(self.place.files().is_empty(), "{:?}", self.place.files());
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        eprintln!("{} rounds with {} clusters, the last with {:?}", self.rounds, self.clusters + 1, self.faults);
    }
}

pub fn soak(mut rng: Rng, length: Duration) {
    let home = directory();
    let place = Place { runtime: home.path().join("run"), temporary: home.path().join("tmp") };
    fs::create_dir(&place.runtime).unwrap();
    fs::create_dir(&place.temporary).unwrap();
    let mut soak = Soak::start(place);
    let mut deck = Deck::new(FAULTS);
    let began = Instant::now();
    while began.elapsed() < length || deck.rounds == 0 {
        soak.round(&mut rng, &mut deck);
    }
    soak.end();
}
