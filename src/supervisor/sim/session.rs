//! The sessions of the simulation: the client in the supervisor's process, attached programs, and tasks of workers.

use super::coordination::Calls;
use super::effects::{Mail, frame};
use super::published::Asked;
use super::worker::payload;
use super::{BAD, FLAKY, HANGS, LIMIT, PLAIN, SAME, STUCK, World, combine, is_restart, value_of};
use crate::ids::{ATTACHED_OWNERS, JobId, SessionId, TaskId, WorkerId};
use crate::ipc::frame::Frame;
use crate::ipc::ledger::Ledger;
use crate::ipc::payload::Payload;
use crate::ipc::segment::listing::Shown;
use crate::ipc::segment::{Attachments, SegmentPool};
use crate::job::explained::FindFrom;
use crate::job::{Delivered, Delivery, EXTERNAL, JobSpec, WantedResult, WireOptions};
use crate::message::{self, FromWorker, Question, Request, ToSession};
use crate::profile::ProfileCommand;
use crate::resources::{GivenAmount, Resources};
use crate::settings::AdaptOptions;
use crate::supervisor::core::SessionEnd;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What a session last heard of an output that it has not released.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Nothing,
    Ready,
    Value,
    Failed,
}

/// A task as whoever submitted it knows it.
pub(super) struct Known {
    pub(super) kind: u8,
    /// What a serial evaluation gives, failures aside.
    pub(super) value: u64,
    pub(super) inputs: Vec<TaskId>,
    /// Where it may run is restricted.
    pub(super) picky: bool,
}

pub(super) struct SimSession {
    pub(super) id: SessionId,
    pub(super) end: SessionEnd,
    pub(super) pool: SegmentPool,
    pub(super) attachments: Attachments,
    /// What it has shown.
    shows: Shown,
    /// What an attached program has sent.
    pub(super) outbox: VecDeque<Frame>,
    pub(super) wanted: BTreeMap<TaskId, Heard>,
    /// Jobs that may grow, with how many tasks they have.
    open: Vec<(u32, u32)>,
    /// Questions that have not been answered.
    pub(super) tickets: BTreeSet<u64>,
    next_ticket: u64,
    /// Those among them about published results.
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) calls: Calls,
    /// Values that it has and may still read.
    pub(super) values: Vec<Payload>,
    /// It has been told that nothing will come any more.
    pub(super) closed: bool,
}

impl SimSession {
    pub(super) fn new(id: SessionId, end: SessionEnd, pool: SegmentPool) -> Self {
        Self {
            id,
            end,
            pool,
            attachments: Attachments::new(),
            shows: Shown::default(),
            outbox: VecDeque::new(),
            wanted: BTreeMap::new(),
            open: Vec::new(),
            tickets: BTreeSet::new(),
            next_ticket: 0,
            asked: BTreeMap::new(),
            calls: Calls::default(),
            values: Vec::new(),
            closed: false,
        }
    }
}

impl World {
    /// A program attaches.
    pub(super) fn attach(&mut self) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.fx.mail.insert(id, VecDeque::new());
        let pool = SegmentPool::new(ATTACHED_OWNERS + id.0, Ledger::in_memory(1 << 30), 1 << 20);
        self.sessions.insert(id, SimSession::new(id, SessionEnd::Attached, pool));
        self.core.open_session(id, SessionEnd::Attached, &mut self.fx);
    }

    /// The session of a worker's tasks, which begins with its first request.
    pub(super) fn session_of(&mut self, worker: WorkerId) -> Option<SessionId> {
        let pool = self.fx.workers.get(&worker).filter(|w| w.is_up() && !w.running.is_empty())?.pool.clone();
        let id = SessionId::of_tasks(worker);
        self.sessions.entry(id).or_insert_with(|| SimSession::new(id, SessionEnd::Worker(worker), pool));
        Some(id)
    }

    /// A session sends a request, by its way.
    pub(super) fn ask(&mut self, id: SessionId, request: Request) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.end {
            SessionEnd::Client => {
                self.fx.blameless = is_restart(&request);
                self.core.request(id, request, &mut self.fx);
                self.fx.blameless = false;
                self.follow();
            }
            SessionEnd::Attached => {
                let (body, segments) = message::encode(&request).unwrap();
                for segment in &segments {
                    session.pool.lend(segment);
                }
                session.outbox.push_back(frame(&mut session.shows, body, &segments));
            }
            SessionEnd::Worker(worker) => {
                if let Some(worker) = self.fx.workers.get_mut(&worker).filter(|worker| worker.ended.is_none()) {
                    worker.post(&FromWorker::Session(request));
                }
            }
        }
    }

    /// A session does something, at random.
    pub(super) fn act(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.closed) else { return };
        let some = |rng: &mut fastrand::Rng| -> Option<(JobId, Vec<u32>)> {
            let all: Vec<TaskId> = session.wanted.keys().copied().collect();
            let job = rng.choice(&all)?.job;
            let mut outputs: Vec<u32> = all.iter().filter(|id| id.job == job).map(|id| id.index).collect();
            outputs.truncate(1 + rng.usize(0..outputs.len()));
            Some((job, outputs))
        };
        let some_wanted = some(&mut self.rng);
        match (self.rng.u8(0..20), some_wanted) {
            (0..5, _) if self.jobs < self.most_jobs => self.submit(id),
            (5, _) => self.question(id),
            (6, _) => self.grow(id),
            (7..9, Some((job, outputs))) => self.release(id, job, outputs),
            (9, Some((job, outputs))) => {
                self.cancelled.extend(outputs.iter().map(|&index| TaskId { job, index }));
                self.ask(id, Request::Cancel { number: job.number, outputs });
            }
            (10, Some((job, outputs))) => {
                let Some(session) = self.sessions.get_mut(&id) else { return };
                let failed = |index: &u32| session.wanted.get(&TaskId { job, index: *index }) == Some(&Heard::Failed);
                let outputs: Vec<u32> = outputs.into_iter().filter(failed).collect();
                for &index in &outputs {
                    session.wanted.insert(TaskId { job, index }, Heard::Nothing);
                }
                if !outputs.is_empty() {
                    self.ask(id, Request::Retry { number: job.number, outputs });
                }
            }
            (11..13, Some((job, outputs))) => self.ask(id, Request::Deliver { number: job.number, outputs }),
            (13..17, _) => self.coordinate(id),
            (17..19, _) => self.publish_or_read(id),
            _ => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.values.clear();
                }
            }
        }
    }

    pub(super) fn release(&mut self, id: SessionId, job: JobId, outputs: Vec<u32>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.wanted.retain(|id, _| id.job != job || !outputs.contains(&id.index));
        }
        self.ask(id, Request::Release { number: job.number, outputs });
    }

    fn question(&mut self, id: SessionId) {
        let mut some_name = || format!("worker-{}", self.rng.usize(0..5));
        let names = [some_name(), some_name()];
        let Some(session) = self.sessions.get(&id) else { return };
        let claimed = session.wanted.keys().next().copied();
        let question = match self.rng.u8(0..18) {
            0 => Question::Workers,
            1 => Question::Deaths,
            2 => Question::Memory,
            3 => Question::Logs,
            4 => Question::Events,
            5 => match claimed {
                Some(id) => Question::Explain(id.job, id.index),
                None => Question::Groups(None),
            },
            6 => Question::WaitForWorkers { n: self.rng.usize(0..4), millis: self.rng.u64(0..5000) },
            7 => Question::Scale(self.rng.usize(0..4)),
            8 => {
                let millis = self.rng.choice([None, Some(40)]).unwrap();
                Question::Retire { names: names[self.rng.usize(0..2)..].to_vec(), millis, by: None }
            }
            9 => {
                let millis = self.rng.choice([0, 50, 3000]).unwrap();
                Question::RestartWorker { name: names[0].clone(), millis, by: None }
            }
            10 => {
                let (min, max) = (self.rng.usize(0..3), self.rng.usize(1..5));
                let interval = Duration::from_millis(self.rng.choice([5, 60, 700]).unwrap());
                let options = AdaptOptions { interval, wait: self.rng.u32(0..3), target: Duration::from_millis(10) };
                Question::Adapt { min, max, options }
            }
            13 => Question::Held(claimed.filter(|_| self.rng.bool()).map(|id| vec![id])),
            12 => {
                let names = self.rng.bool().then(|| vec![format!("worker-{}", self.rng.usize(0..4))]);
                Question::RunOn { names, function: 8 }
            }
            11 => Question::StopAdapting(self.rng.u64(0..4)),
            14 => Question::ListPublished,
            15 => {
                let commands = [ProfileCommand::Start, ProfileCommand::Stop, ProfileCommand::Read];
                Question::Profile(self.rng.choice(commands).unwrap())
            }
            16 => {
                let prefix = self.rng.choice(["task", "task-0", "nope"]).unwrap().to_string();
                let runs = self.rng.bool().then(|| self.rng.u32(0..5));
                Question::Find {
                    prefix,
                    from: FindFrom { slot: self.rng.u32(0..9), task: self.rng.u32(0..9), runs },
                    by: None,
                }
            }
            _ => Question::Restart,
        };
        self.question_of(id, question);
    }

    /// A session asks something, under the ticket that this gives.
    pub(super) fn question_of(&mut self, id: SessionId, question: Question) -> Option<u64> {
        let session = self.sessions.get_mut(&id)?;
        let ticket = session.next_ticket;
        session.next_ticket += 1;
        session.tickets.insert(ticket);
        self.ask(id, Request::Ask { ticket, question });
        Some(ticket)
    }

    fn submit(&mut self, id: SessionId) {
        let number = self.jobs;
        self.jobs += 1;
        let full = self.full_messages && self.rng.u8(..) < 60;
        let open = !full && self.rng.u8(..) < 30;
        let spec = match full {
            true => {
                let (many, tasks) = (self.rng.u32(2..300), self.rng.u32(1..4));
                self.describe_full(JobId { session: id, number }, many, tasks)
            }
            false => self.describe(JobId { session: id, number }, 0, open),
        };
        if open && let Some(session) = self.sessions.get_mut(&id) {
            session.open.push((number, spec.len() as u32));
        }
        self.ask(id, Request::Submit { number, spec });
    }

    /// A job of the session that is open gets more tasks, or is closed.
    fn grow(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.open.is_empty() {
            return;
        }
        let at = self.rng.usize(0..session.open.len());
        let (number, first) = session.open.swap_remove(at);
        let open = self.rng.bool();
        let part = self.describe(JobId { session: id, number }, first, true);
        if open && let Some(session) = self.sessions.get_mut(&id) {
            session.open.push((number, first + part.len() as u32));
        }
        self.ask(id, Request::Grow { number, part: JobSpec { open, ..part } });
    }

    /// Says of all jobs that are open that no more comes.
    pub(super) fn close_jobs(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let open = self.sessions.get_mut(&id).map(|session| std::mem::take(&mut session.open)).unwrap_or_default();
            for (number, _) in open {
                self.ask(id, Request::Grow { number, part: JobSpec::default() });
            }
        }
    }

    fn add_task(&mut self, id: TaskId, spec: &mut JobSpec, kind: u8, times: u8, inputs: Vec<TaskId>, picky: bool) {
        let tag = self.rng.u64(..);
        let value = match inputs.first() {
            Some(first) if kind == SAME => self.known[first].value,
            _ => inputs.iter().fold(tag, |value, input| combine(value, self.known[input].value)),
        };
        spec.bodies.extend([kind, times]);
        spec.bodies.extend(tag.to_le_bytes());
        self.known.insert(id, Known { kind, value, inputs, picky });
    }

    /// A part of the result of that maker.
    fn add_part(&mut self, id: TaskId, maker: TaskId, spec: &mut JobSpec) {
        let place = spec.parts.len() as u32;
        spec.parts.push((spec.dep_ends.len() as u32, place));
        let value = combine(self.known[&maker].value, u64::from(place));
        self.known.insert(id, Known { kind: PLAIN, value, inputs: vec![maker], picky: false });
    }

    fn add_data(&mut self, id: TaskId, index: u32, spec: &mut JobSpec, in_segment: bool) {
        let session = &self.sessions[&id.job.session];
        // It may have been sent the value, and be the maker of none of its segments.
        let given = self.rng.choice(&session.values).filter(|_| self.rng.bool()).cloned();
        let given = given.unwrap_or_else(|| payload(&session.pool, self.rng.u64(..), in_segment));
        let value = value_of(&given);
        spec.data.push((index, given));
        self.known.insert(id, Known { kind: PLAIN, value, inputs: Vec::new(), picky: false });
    }

    /// Tasks of a job, from that number on.
    fn describe(&mut self, job: JobId, first: u32, open: bool) -> JobSpec {
        let mut spec = JobSpec { open, fails_fast: self.rng.u8(..) < 25, ..JobSpec::default() };
        let claimed: Vec<TaskId> = self.sessions[&job.session].wanted.keys().copied().collect();
        if !open && !claimed.is_empty() {
            let picked: BTreeSet<TaskId> =
                (0..self.rng.u8(0..3)).map(|_| claimed[self.rng.usize(0..claimed.len())]).collect();
            spec.externals.extend(picked);
        }
        spec.broadcast = !open && self.rng.u8(..) < 40;
        let n = self.rng.u32(1..8);
        // Tasks whose results are taken apart.
        let mut makers: Vec<u32> = Vec::new();
        for index in 0..n {
            let id = TaskId { job, index: first + index };
            let maker = makers.last().copied().filter(|_| self.rng.u8(..) < 160);
            if let Some(maker) = maker {
                self.add_part(id, TaskId { job, index: first + maker }, &mut spec);
                spec.deps.push(maker);
            } else if self.rng.u8(..) < 40 {
                let in_segment = self.rng.bool();
                self.add_data(id, index, &mut spec, in_segment);
            } else {
                let mut deps = BTreeSet::new();
                for _ in 0..self.rng.u8(0..4) {
                    if index > 0 {
                        deps.insert(self.rng.u32(0..index));
                    }
                    deps.retain(|dep| !makers.contains(dep));
                    if !spec.externals.is_empty() && self.rng.u8(..) < 80 {
                        deps.insert(EXTERNAL | self.rng.u32(0..spec.externals.len() as u32));
                    }
                }
                let input = |dep: &u32| match dep & EXTERNAL {
                    0 => TaskId { job, index: first + dep },
                    _ => spec.externals[(dep & !EXTERNAL) as usize],
                };
                let inputs: Vec<TaskId> = deps.iter().map(input).collect();
                let mut options = WireOptions::default();
                let mut kind = if self.rng.u8(..) < 60 { SAME } else { PLAIN };
                if self.rng.u8(0..100) < self.trouble {
                    kind = if open { BAD } else { self.rng.choice([BAD, FLAKY, HANGS, STUCK]).unwrap() };
                    options.retries = self.rng.u32(0..3) + u32::from(kind == FLAKY);
                    if kind == HANGS || kind == STUCK {
                        options.timeout_ms = Some(self.rng.u64(1..40));
                        options.retries = options.retries.min(1);
                    }
                }
                match self.rng.u8(0..60) {
                    0 => options.priority = 1,
                    1 => options.tag = Some("even".to_string()),
                    2 => options.worker = Some("worker-1".to_string()),
                    3..8 => options.memory = Some(self.rng.u64(1..1500)),
                    8..11 => {
                        let amount = GivenAmount::new(f64::from(self.rng.u8(1..6)) / 2.0);
                        options.resources = Resources::of([("gpu", amount)]);
                    }
                    11 => options.among = vec!["worker-0".to_string(), "worker-2".to_string()],
                    _ => {}
                }
                if open {
                    options = WireOptions::default();
                }
                let too_large = options.memory.is_some_and(|memory| memory > LIMIT);
                let placed = options.tag.is_some() || options.worker.is_some() || !options.among.is_empty();
                let picky = placed || !options.resources.is_empty() || too_large;
                self.add_task(id, &mut spec, kind, options.retries as u8, inputs, picky);
                if options != WireOptions::default() {
                    spec.options.push((index, options));
                }
                spec.deps.extend(deps);
                if index + 1 < n && self.rng.u8(..) < 50 {
                    makers.push(index);
                }
            }
            spec.dep_ends.push(spec.deps.len() as u32);
            spec.body_ends.push(spec.bodies.len() as u32);
            let output = self.rng.u8(..) < if maker.is_some() { 160 } else { 70 };
            if (output && !makers.contains(&index)) || index + 1 == n {
                spec.outputs.push(WantedResult { index, deliver: self.rng.bool() });
            }
        }
        self.claim(job, first, &spec);
        spec
    }

    /// Tasks that each have so many inputs in segments: they fill several messages, or more than there may be.
    pub(super) fn describe_full(&mut self, job: JobId, many: u32, tasks: u32) -> JobSpec {
        let mut spec = JobSpec::default();
        let value = self.rng.u64(..);
        let shared = payload(&self.sessions[&job.session].pool, value, true);
        let deliver = self.rng.bool();
        for index in 0..many {
            spec.data.push((index, shared.clone()));
            self.known.insert(TaskId { job, index }, Known { kind: PLAIN, value, inputs: Vec::new(), picky: false });
            spec.dep_ends.push(0);
            spec.body_ends.push(0);
            if deliver {
                spec.outputs.push(WantedResult { index, deliver });
            }
        }
        let inputs: Vec<TaskId> = (0..many).map(|index| TaskId { job, index }).collect();
        for index in many..many + tasks {
            spec.deps.extend(0..many);
            self.add_task(TaskId { job, index }, &mut spec, PLAIN, 0, inputs.clone(), false);
            spec.dep_ends.push(spec.deps.len() as u32);
            spec.body_ends.push(spec.bodies.len() as u32);
            spec.outputs.push(WantedResult { index, deliver });
        }
        self.claim(job, 0, &spec);
        spec
    }

    fn claim(&mut self, job: JobId, first: u32, spec: &JobSpec) {
        let Some(session) = self.sessions.get_mut(&job.session) else { return };
        let outputs = spec.outputs.iter().map(|output| TaskId { job, index: first + output.index });
        session.wanted.extend(outputs.map(|id| (id, Heard::Nothing)));
    }

    /// The core takes in the next frame of an attached program; whether there was one.
    pub(super) fn read_session(&mut self, id: SessionId) -> bool {
        let Some(frame) = self.sessions.get_mut(&id).and_then(|session| session.outbox.pop_front()) else {
            return false;
        };
        let opened = crate::supervisor::shared_core::open_request(self.core.loans(), &self.fx.attachments, id, frame);
        let request = opened.unwrap().read().unwrap();
        self.fx.blameless = is_restart(&request);
        self.core.request(id, request, &mut self.fx);
        self.fx.blameless = false;
        self.follow();
        true
    }

    /// A session takes in the next message to it; whether there was one.
    pub(super) fn hear(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let mail = match session.end {
            SessionEnd::Worker(worker) => {
                self.fx.workers.get_mut(&worker).and_then(|w| w.mail.pop_front()).map(Mail::Local)
            }
            _ => self.fx.mail.get_mut(&id).and_then(VecDeque::pop_front),
        };
        let message = match mail {
            None => return false,
            Some(Mail::Local(message)) => message,
            Some(Mail::Frame(frame)) => message::decode(frame, &mut session.attachments.arrival()).unwrap(),
        };
        match message {
            ToSession::Deliveries(deliveries) => {
                deliveries.into_iter().for_each(|delivery| self.delivered(id, delivery))
            }
            ToSession::Answer(ticket, answer) => {
                let asked = session.tickets.remove(&ticket);
                assert!(asked || session.closed, "{answer:?} answers nothing that was asked");
                self.answered(id, ticket, &answer);
            }
            ToSession::Called(ticket, answer) => self.called(id, ticket, answer),
            ToSession::Return(segments) => {
                segments.into_iter().for_each(|(id, n)| session.pool.returned(id, n));
                let ended = session.pool.take_ended();
                if !ended.is_empty() {
                    self.ask(id, Request::FilesEnded(ended));
                }
            }
            ToSession::FilesEnded(files) => session.attachments.end_files(&files),
            ToSession::Abandon(segments) => session.pool.abandon(&segments),
            ToSession::Closed { reason, .. } => {
                assert!(self.may_give_up, "{id:?} is closed for no reason: {reason}");
                session.closed = true;
                session.wanted.clear();
                session.tickets.clear();
                session.asked.clear();
                session.calls = Calls::default();
                session.open.clear();
            }
            ToSession::Refused { number, reason } => panic!("job {number} of {id:?} is refused: {reason}"),
        }
        true
    }

    fn delivered(&mut self, session: SessionId, Delivery { job, index, result }: Delivery) {
        let id = TaskId { job, index };
        assert_eq!(job.session, session, "{id} is of another session");
        let heard = match result {
            Ok(Delivered::Value(payload)) => {
                assert_eq!(value_of(&payload), self.known[&id].value, "value of {id}");
                if let Some(session) = self.sessions.get_mut(&session).filter(|_| self.rng.bool()) {
                    session.values.push(payload);
                }
                Heard::Value
            }
            Ok(Delivered::Ready { .. }) => Heard::Ready,
            Err(failure) => {
                self.justify(id, &failure);
                Heard::Failed
            }
        };
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let early = session.asked.values_mut().find_map(|asked| match asked {
            Asked::ToRead(parts) => parts.iter_mut().find(|(task, _)| *task == id).map(|(_, heard)| heard),
            Asked::Other => None,
        });
        if let Some(claim) = session.wanted.get_mut(&id).or(early) {
            *claim = heard;
        }
    }

    /// A session tells which segments of others it no longer uses; whether there were any.
    pub(super) fn let_go(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let released = session.attachments.take_released();
        if released.is_empty() {
            return false;
        }
        self.ask(id, Request::Released(released));
        true
    }

    /// A session ends, without a word about what it had.
    pub(super) fn vanish(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.core.close_session(id, &mut self.fx);
        self.follow();
    }
}
