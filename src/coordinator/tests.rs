#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

const MAIN: SessionId = SessionId(0);
const OTHER: SessionId = SessionId(7);
const SCOPE: Scope = Scope::Program(MAIN);

fn target(kind: Kind, name: &str, limit: u64) -> Target {
    let type_name = if matches!(kind, Kind::Queue | Kind::Variable) { "u32" } else { "" };
    Target { kind, name: name.to_string(), limit, type_name: type_name.to_string(), shared: false }
}

fn run(session: SessionId, run: u64) -> Caller {
    Caller { session, by: By { run: Some(run), ..By::default() } }
}

fn main() -> Caller {
    Caller { session: MAIN, by: By::default() }
}

/// Callers who are told in words: the ticket and the answer.
#[derive(Default)]
struct Desk {
    coordinator: Coordinator<u32>,
    next: u64,
    dropped: Vec<u32>,
}

type Answers = Vec<(u64, Answer<u32>)>;

fn none() -> Answers {
    Vec::new()
}

impl Desk {
    fn ask(&mut self, caller: Caller, request: Request<u32>) -> Answers {
        let mut told = Told::default();
        self.coordinator.request(caller, SCOPE, request, &mut told);
        self.take(told)
    }

    fn take(&mut self, told: Told<u32>) -> Answers {
        self.coordinator.validate();
        self.dropped.extend(told.unused);
        told.answers.into_iter().map(|(_, ticket, answer)| (ticket, answer)).collect()
    }

    /// Asks with the next ticket, and gives it.
    fn call_as(&mut self, caller: Caller, to: &Target, what: Operation<u32>, patience: Patience) -> (u64, Answers) {
        let ticket = self.next;
        self.next += 1;
        let call = Call { target: to.clone(), operation: what, patience, by: caller.by };
        (ticket, self.ask(caller, Request::Call { ticket, call }))
    }

    fn call(&mut self, caller: Caller, to: &Target, what: Operation<u32>) -> (u64, Answers) {
        self.call_as(caller, to, what, Patience::Blocking)
    }

    fn release(&mut self, caller: Caller, lease: u64) -> Answers {
        self.ask(caller, Request::Release { lease, ticket: None })
    }
}

#[test]
fn a_lock_goes_from_one_to_the_next() {
    let (mut desk, lock) = (Desk::default(), target(Kind::Lock, "a", 1));
    assert_eq!(desk.call(main(), &lock, Operation::Acquire), (0, vec![(0, Answer::Done)]));
    assert_eq!(desk.call(run(OTHER, 1), &lock, Operation::Acquire), (1, none()));
    assert_eq!(desk.call(run(OTHER, 2), &lock, Operation::Acquire), (2, none()));
    let (ticket, answers) = desk.call_as(main(), &lock, Operation::Acquire, Patience::None);
    assert_eq!(answers, [(ticket, Answer::Unavailable)]);
    assert_eq!(desk.release(main(), 0), [(1, Answer::Done)]);
    assert_eq!(desk.release(main(), 0), none());
    assert_eq!(desk.release(run(OTHER, 1), 1), [(2, Answer::Done)]);
    assert_eq!(desk.release(run(OTHER, 2), 2), none());
    assert!(desk.coordinator.list().is_empty(), "a lock that nobody uses is not there");
}

#[test]
fn what_is_not_held_is_not_released() {
    let (mut desk, lock) = (Desk::default(), target(Kind::Lock, "a", 1));
    let (lease, _) = desk.call(main(), &lock, Operation::Acquire);
    let (waits, _) = desk.call(run(OTHER, 1), &lock, Operation::Acquire);
    let not_held = |ticket| [(ticket, Answer::Refused(Refusal::NotHeld))];
    // By another session, what is waited for, and twice.
    let release = |lease, ticket| Request::Release { lease, ticket: Some(ticket) };
    assert_eq!(desk.ask(run(OTHER, 1), release(lease, 90)), not_held(90));
    assert_eq!(desk.ask(run(OTHER, 1), release(waits, 91)), not_held(91));
    assert_eq!(desk.ask(main(), release(lease, 92)), [(92, Answer::Done), (waits, Answer::Done)]);
    assert_eq!(desk.ask(main(), release(lease, 93)), not_held(93));
}

#[test]
fn a_lease_ends_with_its_run_and_with_its_session() {
    let (mut desk, lock) = (Desk::default(), target(Kind::Lock, "a", 1));
    desk.call(run(OTHER, 1), &lock, Operation::Acquire);
    let (second, _) = desk.call(run(OTHER, 2), &lock, Operation::Acquire);
    let (third, _) = desk.call(main(), &lock, Operation::Acquire);
    assert_eq!(desk.ask(run(OTHER, 1), Request::RunEnded { run: 1 }), [(second, Answer::Done)]);
    let mut told = Told::default();
    desk.coordinator.session_ended(OTHER, &mut told);
    assert_eq!(desk.take(told), [(third, Answer::Done)]);
}

#[test]
fn nobody_of_a_session_that_has_ended_has_his_turn() {
    let (mut desk, queue) = (Desk::default(), target(Kind::Queue, "q", 1));
    for n in 1..4 {
        desk.call(run(OTHER, n), &queue, Operation::Get);
    }
    let mut told = Told::default();
    desk.coordinator.session_ended(OTHER, &mut told);
    assert_eq!(desk.take(told), none());
    let (ticket, answers) = desk.call(main(), &queue, Operation::Put(5));
    assert_eq!(answers, [(ticket, Answer::Done)]);
    // One that was to put something is forgotten with it.
    desk.call(run(OTHER, 4), &queue, Operation::Put(6));
    let mut told = Told::default();
    desk.coordinator.session_ended(OTHER, &mut told);
    assert_eq!((desk.take(told), desk.dropped.clone()), (none(), vec![6]));
}

/// The place of an item in the first queue.
fn place(n: u32) -> u64 {
    (1 << 40) + u64::from(n)
}

#[test]
fn a_queue_pushes_back_and_keeps_the_order() {
    let (mut desk, queue) = (Desk::default(), target(Kind::Queue, "q", 2));
    for item in 0..2 {
        let (ticket, answers) = desk.call(main(), &queue, Operation::Put(item));
        assert_eq!(answers, [(ticket, Answer::Done)]);
    }
    let (full, answers) = desk.call(main(), &queue, Operation::Put(2));
    assert_eq!(answers, none());
    let (ticket, answers) = desk.call_as(main(), &queue, Operation::Put(9), Patience::None);
    assert_eq!((answers, desk.dropped.clone()), (vec![(ticket, Answer::Unavailable)], vec![9]));
    let (get, answers) = desk.call(main(), &queue, Operation::Get);
    assert_eq!(answers, [(get, Answer::Item(0, place(0))), (full, Answer::Done)]);
    // It came when nobody waited any more.
    let put_back = |value: u32| Request::PutBack {
        target: target(Kind::Queue, "q", 2),
        value,
        place: place(value),
        by: By::default(),
    };
    assert_eq!(desk.ask(main(), put_back(0)), none());
    for item in 0..3 {
        let (get, answers) = desk.call(main(), &queue, Operation::Get);
        assert_eq!(answers, [(get, Answer::Item(item, place(item)))]);
    }
    // So did several, which are told in any order.
    for item in [1, 0, 2] {
        assert_eq!(desk.ask(main(), put_back(item)), none());
    }
    for item in 0..3 {
        assert_eq!(desk.call(main(), &queue, Operation::Get).1[0].1, Answer::Item(item, place(item)));
    }
    let (first, _) = desk.call(main(), &queue, Operation::Get);
    let (second, _) = desk.call(main(), &queue, Operation::Get);
    assert_eq!(desk.ask(main(), Request::Forget { ticket: first }), [(first, Answer::Unavailable)]);
    let (put, answers) = desk.call(main(), &queue, Operation::Put(7));
    assert_eq!(answers, [(put, Answer::Done), (second, Answer::Item(7, place(3)))]);
    assert_eq!(desk.ask(main(), Request::Forget { ticket: second }), none(), "it has been answered");
}

#[test]
fn events_and_variables_wake_all() {
    let (mut desk, event) = (Desk::default(), target(Kind::Event, "e", 0));
    let (one, _) = desk.call(main(), &event, Operation::Wait);
    let (two, _) = desk.call(run(OTHER, 1), &event, Operation::Wait);
    let (set, answers) = desk.call(main(), &event, Operation::Set);
    assert_eq!(answers, [(set, Answer::Done), (one, Answer::Done), (two, Answer::Done)]);
    let (ticket, answers) = desk.call(main(), &event, Operation::IsSet);
    assert_eq!(answers, [(ticket, Answer::Is(true))]);
    desk.call(main(), &event, Operation::Clear);
    assert!(desk.coordinator.list().is_empty());

    let variable = target(Kind::Variable, "v", 0);
    let (one, _) = desk.call(main(), &variable, Operation::Load);
    let (set, answers) = desk.call(main(), &variable, Operation::Store(3));
    assert_eq!(answers, [(set, Answer::Done), (one, Answer::Value(3))]);
    desk.call(main(), &variable, Operation::Store(4));
    let (delete, answers) = desk.call(main(), &variable, Operation::Delete);
    assert_eq!((answers, desk.dropped.clone()), (vec![(delete, Answer::Is(true))], vec![3, 4]));
    let (delete, answers) = desk.call(main(), &variable, Operation::Delete);
    assert_eq!(answers, [(delete, Answer::Is(false))]);
}

#[test]
fn what_it_was_made_for_it_is_for() {
    let mut desk = Desk::default();
    let queue = target(Kind::Queue, "q", 2);
    desk.call(main(), &queue, Operation::Put(1));
    let words = Target { type_name: "String".to_string(), ..queue.clone() };
    let refused = |why| Answer::Refused(why);
    let (ticket, answers) = desk.call(main(), &words, Operation::Get);
    assert_eq!(answers, [(ticket, refused(Refusal::OtherType { there: "u32".to_string() }))]);
    let (ticket, answers) = desk.call(main(), &target(Kind::Queue, "q", 3), Operation::Put(8));
    assert_eq!(answers, [(ticket, refused(Refusal::OtherLimit { there: 2 }))]);
    assert_eq!(desk.dropped, [8]);
    let (lease, _) = desk.call(main(), &target(Kind::Semaphore, "s", 2), Operation::Acquire);
    desk.release(main(), lease);
    let (ticket, answers) = desk.call(main(), &target(Kind::Semaphore, "s", 1), Operation::Acquire);
    assert_eq!(answers, [(ticket, refused(Refusal::OtherLimit { there: 2 }))]);
    // The same name of another kind, or of another program, is another thing.
    assert_eq!(desk.call(main(), &target(Kind::Lock, "q", 1), Operation::Acquire).1.len(), 1);
    let mut told = Told::default();
    let call = Call { target: words, operation: Operation::Put(5), patience: Patience::None, by: By::default() };
    let caller = Caller { session: OTHER, by: By::default() };
    desk.coordinator.request(caller, Scope::Program(OTHER), Request::Call { ticket: 0, call }, &mut told);
    assert_eq!(told.answers, [(OTHER, 0, Answer::Done)]);
}

#[test]
fn who_waits_for_a_program_that_has_left_is_told() {
    let (mut desk, queue) = (Desk::default(), target(Kind::Queue, "q", 1));
    let (get, _) = desk.call(run(OTHER, 1), &queue, Operation::Get);
    let lock = target(Kind::Lock, "a", 1);
    let (lease, _) = desk.call(run(OTHER, 2), &lock, Operation::Acquire);
    let mut told = Told::default();
    desk.coordinator.scope_ended(SCOPE, &mut told);
    assert_eq!(desk.take(told), [(get, Answer::Refused(Refusal::Gone))]);
    assert!(desk.coordinator.list().is_empty() && desk.coordinator.places.is_empty());
    assert_eq!(desk.release(run(OTHER, 2), lease), none());
    desk.ask(run(OTHER, 1), Request::PutBack { target: queue, value: 3, place: 3, by: By::default() });
    assert_eq!(desk.dropped, [3]);
}

fn deadlock(answers: &Answers) -> Option<&str> {
    match answers.as_slice() {
        [(_, Answer::Refused(Refusal::Deadlock(why)))] => Some(why),
        _ => None,
    }
}

#[test]
fn a_run_does_not_wait_for_itself() {
    let (mut desk, lock) = (Desk::default(), target(Kind::Lock, "a", 1));
    desk.call(run(OTHER, 1), &lock, Operation::Acquire);
    let (_, answers) = desk.call(run(OTHER, 1), &lock, Operation::Acquire);
    assert_eq!(deadlock(&answers), Some("whoever asks for the lock `a` has it already"));
    // With a limit, or beside other things, it may.
    assert_eq!(desk.call_as(run(OTHER, 1), &lock, Operation::Acquire, Patience::Async).1, none());
    // Another one of the same number is another one.
    assert_eq!(desk.call(run(MAIN, 1), &lock, Operation::Acquire).1, none());
    assert_eq!(desk.call(main(), &lock, Operation::Acquire).1, none());
}

#[test]
fn runs_do_not_wait_in_a_circle() {
    let mut desk = Desk::default();
    let [a, b, c] = ["a", "b", "c"].map(|name| target(Kind::Lock, name, 1));
    for (n, lock) in [&a, &b, &c].into_iter().enumerate() {
        desk.call(run(OTHER, n as u64), lock, Operation::Acquire);
    }
    assert_eq!(desk.call(run(OTHER, 0), &b, Operation::Acquire).1, none());
    let (waits, answers) = desk.call(run(OTHER, 1), &c, Operation::Acquire);
    assert_eq!(answers, none());
    let (_, answers) = desk.call(run(OTHER, 2), &a, Operation::Acquire);
    let why = "the lock `a` is held by a task that waits for the lock `b`, which is held by one that waits for the lock `c`, \
               which the caller has";
    assert_eq!(deadlock(&answers), Some(why));
    // Once one of them does not wait any more, there is none.
    desk.ask(run(OTHER, 1), Request::Forget { ticket: waits });
    assert_eq!(desk.call(run(OTHER, 2), &a, Operation::Acquire).1, none());
}

#[test]
fn a_semaphore_of_which_others_have_a_permit_may_be_waited_for() {
    let (mut desk, two) = (Desk::default(), target(Kind::Semaphore, "s", 2));
    desk.call(run(OTHER, 1), &two, Operation::Acquire);
    let (other, _) = desk.call(run(OTHER, 2), &two, Operation::Acquire);
    let (waits, answers) = desk.call(run(OTHER, 1), &two, Operation::Acquire);
    assert_eq!(answers, none());
    assert_eq!(desk.release(run(OTHER, 2), other), [(waits, Answer::Done)]);
    let (_, answers) = desk.call(run(OTHER, 1), &two, Operation::Acquire);
    assert_eq!(deadlock(&answers), Some("whoever asks for the semaphore `s` has it already"));
}

#[test]
fn the_only_thread_does_not_wait_for_what_nobody_does() {
    let mut desk = Desk::default();
    let thread = |n| Caller { session: MAIN, by: By { thread: Some(n), ..By::default() } };
    let calls = [
        (target(Kind::Event, "e", 0), Operation::Wait, "nobody could set the event `e`"),
        (target(Kind::Queue, "q", 1), Operation::Get, "nobody could put an item into the queue `q`"),
        (target(Kind::Variable, "v", 0), Operation::Load, "nobody could set the variable `v`"),
    ];
    for (target, operation, words) in calls {
        let (_, answers) = desk.call(thread(1), &target, operation.clone());
        assert!(deadlock(&answers).unwrap().starts_with(words), "{answers:?}");
        assert_eq!(desk.call_as(thread(1), &target, operation, Patience::Limited).1, none());
    }
    let lock = target(Kind::Lock, "a", 1);
    desk.call(thread(1), &lock, Operation::Acquire);
    assert!(deadlock(&desk.call(thread(1), &lock, Operation::Acquire).1).is_some());
    assert_eq!(desk.call(thread(2), &lock, Operation::Acquire).1, none());
}

#[test]
fn it_is_told_what_there_is() {
    let mut desk = Desk::default();
    desk.call(main(), &target(Kind::Semaphore, "s", 2), Operation::Acquire);
    desk.call(main(), &target(Kind::Queue, "q", 1), Operation::Put(1));
    desk.call(run(OTHER, 1), &target(Kind::Queue, "q", 1), Operation::Put(2));
    let list = desk.coordinator.list();
    let told: Vec<_> = list.iter().map(|l| (l.kind, &*l.name, l.holders.len(), l.waiting, l.size, l.limit)).collect();
    assert_eq!(told, [(Kind::Semaphore, "s", 1, 0, 1, Some(2)), (Kind::Queue, "q", 0, 1, 1, Some(1))]);
}

impl<V: Clone> Coordinator<V> {
    /// Says of itself from scratch what it keeps in several places.
    pub(crate) fn validate(&self) {
        let mut places = BTreeSet::new();
        for (key, object) in &self.objects {
            let callers = |line: &Line<()>| line.values().map(|w| (w.caller.session, w.ticket)).collect::<Vec<_>>();
            assert!(!object.is_blank(key.kind), "{key:?} is kept for nothing");
            places.extend(object.holders().iter().map(|holder| (holder.caller.session, holder.lease)));
            match object {
                Object::Permits { most, holders, waiting } => {
                    assert!(holders.len() as u64 <= *most, "{key:?} has too many holders");
                    assert!(waiting.is_empty() || holders.len() as u64 == *most, "{key:?} is free, and waited for");
                    places.extend(callers(waiting));
                }
                Object::Event { is_set, waiting } => {
                    assert!(!is_set || waiting.is_empty(), "{key:?} is set, and waited for");
                    places.extend(callers(waiting));
                }
                Object::Queue { most, items, getting, putting, .. } => {
                    assert!(items.is_empty() || getting.is_empty(), "{key:?} has items, and they are waited for");
                    assert!(
                        items.len() as u64 >= *most || putting.is_empty(),
                        "{key:?} has room, and it is waited for"
                    );
                    places.extend(callers(getting));
                    places.extend(putting.values().map(|w| (w.caller.session, w.ticket)));
                }
                Object::Variable { value, waiting, .. } => {
                    assert!(value.is_none() || waiting.is_empty(), "{key:?} has a value, and it is waited for");
                    places.extend(callers(waiting));
                }
            }
        }
        assert_eq!(places, self.places.keys().copied().collect(), "what is known by its ticket");
        for (identity, key) in &self.blocked {
            assert!(self.objects.contains_key(key), "{identity:?} waits for what is not there");
        }
    }

    /// How many calls and leases there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

/// What callers do at random, as numbers that are brought into range.
#[derive(Clone, Debug)]
enum Step {
    Call { session: u8, run: u8, what: u8, patience: u8 },
    Release(usize),
    Forget(usize),
    PutBack(usize),
    RunEnded { session: u8, run: u8 },
    SessionEnded(u8),
    ScopeEnded,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..3_u8, 0..3_u8, 0..14_u8, 0..4_u8)
            .prop_map(|(session, run, what, patience)| Step::Call { session, run, what, patience }),
        4 => any::<usize>().prop_map(Step::Release),
        3 => any::<usize>().prop_map(Step::Forget),
        1 => any::<usize>().prop_map(Step::PutBack),
        1 => (0..3_u8, 0..3_u8).prop_map(|(session, run)| Step::RunEnded { session, run }),
        1 => (1..3_u8).prop_map(Step::SessionEnded),
        1 => Just(Step::ScopeEnded),
    ];
    prop::collection::vec(step, 0..120)
}

/// What is known outside of all calls.
#[derive(Default)]
struct Seen {
    desk: Desk,
    /// Calls without an answer: the session, and whether what they acquire is to be released.
    open: BTreeSet<(SessionId, u64)>,
    leases: Vec<(SessionId, u64)>,
    runs: HashMap<(SessionId, u64), u64>,
    acquires: HashSet<u64>,
    puts: HashMap<u64, u32>,
    /// Items that lie somewhere, in the order in which they were put.
    inside: Vec<u32>,
    /// With their places.
    given: Vec<(u32, u64)>,
    next_item: u32,
}

impl Seen {
    fn tell(&mut self, answers: Answers) {
        for (ticket, answer) in answers {
            let session = self.open.iter().find(|(_, open)| *open == ticket).map(|(session, _)| *session);
            let session = session.unwrap_or_else(|| panic!("{ticket} is answered twice, or was gone: {answer:?}"));
            self.open.remove(&(session, ticket));
            match answer {
                Answer::Done if self.acquires.contains(&ticket) => self.leases.push((session, ticket)),
                Answer::Done => self.inside.extend(self.puts.remove(&ticket)),
                Answer::Item(item, place) => {
                    assert_eq!(self.inside.first(), Some(&item), "items come in order, and each once");
                    self.inside.remove(0);
                    self.given.push((item, place));
                }
                _ => {}
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Call { session, run: number, what, patience } => {
                let session = SessionId(u32::from(session));
                let caller =
                    if number == 0 { Caller { session, by: By::default() } } else { run(session, number.into()) };
                let ticket = self.desk.next;
                self.open.insert((session, ticket));
                self.runs.extend(caller.by.run.map(|run| ((session, ticket), run)));
                let item = self.next_item;
                self.next_item += 1;
                let locks = ["a", "b"].map(|name| target(Kind::Lock, name, 1));
                let (queue, event) = (target(Kind::Queue, "q", 2), target(Kind::Event, "e", 0));
                let variable = target(Kind::Variable, "v", 0);
                let (to, operation) = match what {
                    0..2 => (locks[usize::from(what)].clone(), Operation::Acquire),
                    2..4 => (target(Kind::Semaphore, "s", 2), Operation::Acquire),
                    4..7 => (queue, Operation::Put(item)),
                    7..10 => (queue, Operation::Get),
                    10 => (event, Operation::Wait),
                    11 => (event, self.desk.rarely(Operation::Set, Operation::Clear)),
                    12 => (variable, Operation::Load),
                    _ => (variable, self.desk.rarely(Operation::Store(1_000_000 + item), Operation::Delete)),
                };
                match operation {
                    Operation::Acquire => drop(self.acquires.insert(ticket)),
                    Operation::Put(item) => drop(self.puts.insert(ticket, item)),
                    _ => {}
                }
                let patience =
                    [Patience::None, Patience::Blocking, Patience::Limited, Patience::Async][usize::from(patience)];
                let (_, answers) = self.desk.call_as(caller, &to, operation, patience);
                self.tell_puts_first(answers);
            }
            Step::Release(n) if !self.leases.is_empty() => {
                let (session, lease) = self.leases.swap_remove(n % self.leases.len());
                let answers = self.desk.release(Caller { session, by: By::default() }, lease);
                self.tell(answers);
            }
            Step::Forget(n) if !self.open.is_empty() => {
                let (session, ticket) = *self.open.iter().nth(n % self.open.len()).unwrap();
                let answers = self.desk.ask(Caller { session, by: By::default() }, Request::Forget { ticket });
                assert!(answers.contains(&(ticket, Answer::Unavailable)));
                self.tell_puts_first(answers);
            }
            Step::PutBack(n) if !self.given.is_empty() => {
                let (value, place) = self.given.swap_remove(n % self.given.len());
                let at = self.inside.partition_point(|item| *item < value);
                self.inside.insert(at, value);
                let request = Request::PutBack { target: target(Kind::Queue, "q", 2), value, place, by: By::default() };
                let answers = self.desk.ask(main(), request);
                if self.desk.dropped.last() == Some(&value) {
                    // The queue has gone with its program.
                    self.inside.remove(at);
                }
                self.tell(answers);
            }
            Step::RunEnded { session, run } => {
                let (session, run) = (SessionId(u32::from(session)), u64::from(run));
                let runs = &self.runs;
                self.leases.retain(|lease| runs.get(lease) != Some(&run) || lease.0 != session);
                let answers = self.desk.ask(Caller { session, by: By::default() }, Request::RunEnded { run });
                self.tell_puts_first(answers);
            }
            Step::SessionEnded(session) => {
                let session = SessionId(u32::from(session));
                self.leases.retain(|(of, _)| *of != session);
                self.open.retain(|(of, _)| *of != session);
                let mut told = Told::default();
                self.desk.coordinator.session_ended(session, &mut told);
                let answers = self.desk.take(told);
                self.tell_puts_first(answers);
            }
            Step::ScopeEnded => {
                let mut told = Told::default();
                self.desk.coordinator.scope_ended(SCOPE, &mut told);
                let answers = self.desk.take(told);
                assert_eq!(answers.len(), self.open.len(), "all that waited are told");
                self.open.clear();
                self.leases.clear();
                self.inside.clear();
                assert_eq!(self.desk.coordinator.len(), 0);
            }
            _ => {}
        }
    }

    /// An item that is put and taken in one step lies there in between.
    fn tell_puts_first(&mut self, answers: Answers) {
        let mut answers = answers;
        answers.sort_by_key(|(ticket, answer)| (!self.puts.contains_key(ticket) || *answer != Answer::Done, *ticket));
        // A put that had to wait lies behind all that others take in the same step; it is told in the order of calls.
        self.tell(answers);
    }
}

impl Desk {
    fn rarely(&self, often: Operation<u32>, rarely: Operation<u32>) -> Operation<u32> {
        if self.next.is_multiple_of(3) { rarely } else { often }
    }
}

proptest! {
    #[test]
    fn each_call_is_answered_once_and_each_item_given_once(steps in steps()) {
        let mut seen = Seen::default();
        for step in steps {
            seen.step(step);
            let waiting: u64 = seen.desk.coordinator.list().iter().map(|listed| listed.waiting).sum();
            prop_assert_eq!(waiting as usize, seen.open.len());
            prop_assert_eq!(seen.desk.coordinator.len(), seen.open.len() + seen.leases.len());
            let lying = seen.desk.coordinator.list().iter().find(|l| l.kind == Kind::Queue).map_or(0, |l| l.size);
            prop_assert_eq!(lying as usize, seen.inside.len());
        }
        // Those who are left go on once everything is released, put and set.
        while let Some((session, lease)) = seen.leases.pop() {
            let answers = seen.desk.release(Caller { session, by: By::default() }, lease);
            seen.tell(answers);
        }
        let left = seen.desk.coordinator.list();
        let held = left.iter().filter(|listed| matches!(listed.kind, Kind::Lock | Kind::Semaphore));
        prop_assert_eq!(held.map(|listed| listed.size + listed.waiting).sum::<u64>(), 0);
    }
}
