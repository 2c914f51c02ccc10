//! Locks, semaphores, events, queues and variables by name: who holds what, who waits for what, and what lies there.
//!
//! Plain state, the same in every mode: callers and their runs are numbers, values are of any type `V`, answers go to a list.
//! Who calls gets one answer under its ticket, now or later, unless its session ends before. What a caller acquires is its
//! *lease*, known by the ticket of the call; it ends when it is released, and at the latest with the run or the session of its
//! holder.

mod call;
mod circle;
mod line;
#[cfg(test)]
mod tests;

pub(crate) use call::{
    Answer, By, Call, Caller, Kind, Operation, Patience, Refusal, Request, Scope, Target, UNBOUNDED, check_name,
};

use crate::ids::{SessionId, TaskId};
use crate::units::Shown;
use circle::Identity;
use line::{Line, Waiter};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// What something is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    scope: Scope,
    kind: Kind,
    name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, Shown(&self.name))
    }
}

struct Holder {
    caller: Caller,
    lease: u64,
}

enum Object<V> {
    /// A lock, or a semaphore.
    Permits {
        most: u64,
        holders: Vec<Holder>,
        waiting: Line<()>,
    },
    Event {
        is_set: bool,
        waiting: Line<()>,
    },
    Queue {
        most: u64,
        type_name: String,
        /// With their places, in order.
        items: VecDeque<(u64, V)>,
        /// The place of the next one.
        next: u64,
        getting: Line<()>,
        putting: Line<V>,
    },
    Variable {
        type_name: String,
        value: Option<V>,
        waiting: Line<()>,
    },
}

/// What a ticket stands for.
enum Place {
    /// A call that waits, and its number in its line.
    Waits(Key, u64),
    /// A lease.
    Holds(Key),
}

impl Place {
    fn key(&self) -> &Key {
        match self {
            Self::Waits(key, _) | Self::Holds(key) => key,
        }
    }
}

/// What callers are to be told, and values that nobody needs any more: their drops are users' code.
pub(crate) struct Told<V> {
    pub(crate) answers: Vec<(SessionId, u64, Answer<V>)>,
    pub(crate) unused: Vec<V>,
}

impl<V> Default for Told<V> {
    fn default() -> Self {
        Self { answers: Vec::new(), unused: Vec::new() }
    }
}

impl<V> Told<V> {
    fn answer(&mut self, to: SessionId, ticket: u64, answer: Answer<V>) {
        self.answers.push((to, ticket, answer));
    }
}

/// What there is of one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) scope: Scope,
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) holders: Vec<Caller>,
    /// Calls that wait.
    pub(crate) waiting: u64,
    /// How many hold it, or lie in it; 1 for an event that is set and a variable that has a value.
    pub(crate) size: u64,
    pub(crate) limit: Option<u64>,
}

/// See the head of this module.
pub(crate) struct Coordinator<V> {
    objects: FxHashMap<Key, Object<V>>,
    places: BTreeMap<(SessionId, u64), Place>,
    /// What those wait for that do nothing else meanwhile.
    blocked: FxHashMap<Identity, Key>,
    /// Numbers in all lines ascend in the order of calls.
    next: u64,
    /// How many queues there have been: places in a later one are higher.
    queues: u64,
}

impl<V> Default for Coordinator<V> {
    fn default() -> Self {
        Self {
            objects: FxHashMap::default(),
            places: BTreeMap::new(),
            blocked: FxHashMap::default(),
            next: 0,
            queues: 0,
        }
    }
}

impl<V: Clone> Coordinator<V> {
    /// Takes in what a session asks for or says. `scope`: whose names the request means, as far as it names something.
    pub(crate) fn request(&mut self, caller: Caller, scope: Scope, request: Request<V>, told: &mut Told<V>) {
        match request {
            Request::Call { ticket, call } => self.call(caller, ticket, scope, call, told),
            Request::Release { lease, ticket } => self.release(caller.session, lease, ticket, told),
            Request::Forget { ticket } => self.forget(caller.session, ticket, told),
            Request::PutBack { target, value, place, .. } => self.put_back(scope, target, (place, value), told),
            Request::RunEnded { run } => self.run_ended(caller.session, run, told),
        }
    }

    fn call(&mut self, caller: Caller, ticket: u64, scope: Scope, call: Call<V>, told: &mut Told<V>) {
        let Call { target, operation, patience, .. } = call;
        let key = Key { scope, kind: target.kind, name: Arc::from(target.name.as_str()) };
        let object = self.objects.entry(key.clone()).or_insert_with(|| {
            self.queues += u64::from(target.kind == Kind::Queue);
            Object::of(&target, self.queues)
        });
        let is_acquired = matches!(operation, Operation::Acquire);
        let tried = match object.mismatch(&target) {
            Some(refusal) => {
                told.unused.extend(operation.into_value());
                Ok(Answer::Refused(refusal))
            }
            None => object.try_now(operation, caller, ticket, &mut told.unused),
        };
        match tried {
            Ok(answer) => {
                if is_acquired && matches!(answer, Answer::Done) {
                    self.places.insert((caller.session, ticket), Place::Holds(key.clone()));
                }
                told.answer(caller.session, ticket, answer);
            }
            Err(operation) => {
                let never = match patience {
                    Patience::None => Some(Answer::Unavailable),
                    Patience::Async => None,
                    Patience::Blocking => self.circle(&key, &operation, caller).map(Answer::Refused),
                    Patience::Limited => None,
                };
                match never {
                    Some(answer) => {
                        told.unused.extend(operation.into_value());
                        told.answer(caller.session, ticket, answer);
                    }
                    None => self.wait(&key, caller, ticket, operation, patience),
                }
            }
        }
        self.go_on(&key, told);
    }

    /// Has a call wait for its turn.
    fn wait(&mut self, key: &Key, caller: Caller, ticket: u64, operation: Operation<V>, patience: Patience) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let number = self.next;
        self.next += 1;
        // One that waits for a limited time, or beside other things, can do something else then.
        let identity = Identity::of(&caller).filter(|_| patience == Patience::Blocking);
        object.enter(number, Waiter { caller, ticket, patience, what: () }, operation);
        self.places.insert((caller.session, ticket), Place::Waits(key.clone(), number));
        if let Some(identity) = identity
            && key.kind.has_holders()
        {
            self.blocked.insert(identity, key.clone());
        }
    }

    /// Ends a lease.
    fn release(&mut self, session: SessionId, lease: u64, ticket: Option<u64>, told: &mut Told<V>) {
        let held = matches!(self.places.get(&(session, lease)), Some(Place::Holds(_)));
        let key = if held { self.leave(session, lease, told) } else { None };
        if let Some(ticket) = ticket {
            let answer = if key.is_some() { Answer::Done } else { Answer::Refused(Refusal::NotHeld) };
            told.answer(session, ticket, answer);
        }
        if let Some(key) = key {
            self.go_on(&key, told);
        }
    }

    /// Who called does not wait any more. One that waited is told so; what was answered before stands.
    fn forget(&mut self, session: SessionId, ticket: u64, told: &mut Told<V>) {
        if let Some(Place::Waits(..)) = self.places.get(&(session, ticket)) {
            let key = self.leave(session, ticket, told);
            told.answer(session, ticket, Answer::Unavailable);
            if let Some(key) = key {
                self.go_on(&key, told);
            }
        }
    }

    /// An item that was given to somebody who had gone goes back to where it was: before all that came after it.
    fn put_back(&mut self, scope: Scope, target: Target, item: (u64, V), told: &mut Told<V>) {
        let key = Key { scope, kind: target.kind, name: Arc::from(target.name.as_str()) };
        match self.objects.get_mut(&key) {
            Some(Object::Queue { items, .. }) => {
                let at = items.partition_point(|(place, _)| *place < item.0);
                items.insert(at, item);
            }
            _ => told.unused.push(item.1),
        }
        self.go_on(&key, told);
    }

    /// What a run has acquired and not released ends with it, and so do calls of it that wait.
    fn run_ended(&mut self, session: SessionId, run: u64, told: &mut Told<V>) {
        let waits = self.leave_all(session, |caller| caller.by.run == Some(run), told);
        // Something of it may still wait elsewhere.
        waits.into_iter().for_each(|ticket| told.answer(session, ticket, Answer::Unavailable));
    }

    /// All that a session had ends with it, and none of its calls is answered.
    pub(crate) fn session_ended(&mut self, session: SessionId, told: &mut Told<V>) {
        // Nobody is there to be told.
        let _waited = self.leave_all(session, |_| true, told);
    }

    /// The program that has these names has left. Those of its tasks that still wait are told so.
    pub(crate) fn scope_ended(&mut self, scope: Scope, told: &mut Told<V>) {
        let gone: Vec<Key> = self.objects.keys().filter(|key| key.scope == scope).cloned().collect();
        for key in gone {
            let Some(mut object) = self.objects.remove(&key) else { continue };
            for holder in object.take_holders() {
                self.places.remove(&(holder.caller.session, holder.lease));
            }
            for (caller, ticket) in object.end(&mut told.unused) {
                self.places.remove(&(caller.session, ticket));
                told.answer(caller.session, ticket, Answer::Refused(Refusal::Gone));
            }
            self.blocked.retain(|_, of| *of != key);
        }
    }

    /// What there is, by kind and name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.objects.iter().map(|(key, object)| object.listed(key)).collect();
        all.sort_by(|a, b| (a.kind, &a.name, a.scope).cmp(&(b.kind, &b.name, b.scope)));
        all
    }

    /// What a task waits for that others have, and which tasks these are, each with its session.
    pub(crate) fn holders_before(&self, session: SessionId, task: TaskId) -> Vec<(String, SessionId, TaskId)> {
        let places = self.places.range((session, 0)..=(session, u64::MAX));
        let waits = places.filter_map(|(_, place)| {
            let Place::Waits(key, number) = place else { return None };
            let object = self.objects.get(key)?;
            object.waiter(*number).filter(|(caller, _)| caller.by.task == Some(task)).map(|_| (key, object))
        });
        let holders = waits.flat_map(|(key, object)| object.holders().iter().map(move |holder| (key, holder.caller)));
        holders.filter_map(|(key, caller)| Some((format!("the {key}"), caller.session, caller.by.task?))).collect()
    }

    /// The tasks of a session whose threads wait for their calls.
    pub(crate) fn blocked_tasks(&self, session: SessionId) -> Vec<TaskId> {
        let places = self.places.range((session, 0)..=(session, u64::MAX));
        let waits = places.filter_map(|(_, place)| match place {
            Place::Waits(key, number) => self.objects.get(key)?.waiter(*number),
            Place::Holds(_) => None,
        });
        waits.filter(|(_, patience)| *patience != Patience::Async).filter_map(|(caller, _)| caller.by.task).collect()
    }

    /// Takes away everything of a session that is of such callers. The answer is which of them waited.
    fn leave_all(&mut self, session: SessionId, is_gone: impl Fn(&Caller) -> bool, told: &mut Told<V>) -> Vec<u64> {
        let all = self.places.range((session, 0)..=(session, u64::MAX));
        let gone = all.filter(|(id, place)| self.caller(**id, place).is_some_and(&is_gone));
        let gone: Vec<(u64, bool)> =
            gone.map(|(&(_, ticket), place)| (ticket, matches!(place, Place::Waits(..)))).collect();
        // Before anybody else has his turn: nothing is to be given to others of them.
        let keys: Vec<Key> = gone.iter().filter_map(|(ticket, _)| self.leave(session, *ticket, told)).collect();
        keys.iter().for_each(|key| self.go_on(key, told));
        gone.into_iter().filter(|(_, waited)| *waited).map(|(ticket, _)| ticket).collect()
    }

    fn caller(&self, (session, ticket): (SessionId, u64), place: &Place) -> Option<&Caller> {
        let object = self.objects.get(place.key())?;
        match place {
            Place::Waits(_, number) => object.waiter(*number).map(|(caller, _)| caller),
            Place::Holds(_) => object.holder(session, ticket),
        }
    }

    /// Takes a call out of its line, or ends a lease. Gives what it was for: others may go on now.
    fn leave(&mut self, session: SessionId, ticket: u64, told: &mut Told<V>) -> Option<Key> {
        let place = self.places.remove(&(session, ticket))?;
        let object = self.objects.get_mut(place.key())?;
        match &place {
            Place::Waits(_, number) => {
                let (caller, value) = object.remove(*number)?;
                told.unused.extend(value);
                self.unblock(&caller);
            }
            Place::Holds(_) => object.let_go(session, ticket),
        }
        Some(place.key().clone())
    }

    /// A call does not wait any more.
    fn unblock(&mut self, caller: &Caller) {
        if let Some(identity) = Identity::of(caller) {
            self.blocked.remove(&identity);
        }
    }

    /// Has those go on who can now, and forgets what is as if it had never been.
    fn go_on(&mut self, key: &Key, told: &mut Told<V>) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let mut gone_on = Vec::new();
        object.serve(&mut gone_on);
        if object.is_blank(key.kind) {
            self.objects.remove(key);
        }
        for (caller, ticket, answer) in gone_on {
            self.unblock(&caller);
            match key.kind.has_holders() {
                true => drop(self.places.insert((caller.session, ticket), Place::Holds(key.clone()))),
                false => drop(self.places.remove(&(caller.session, ticket))),
            }
            told.answer(caller.session, ticket, answer);
        }
    }
}

impl<V: Clone> Object<V> {
    fn of(target: &Target, queues: u64) -> Self {
        let type_name = target.type_name.clone();
        match target.kind {
            Kind::Lock | Kind::Semaphore => {
                Self::Permits { most: target.limit, holders: Vec::new(), waiting: Line::default() }
            }
            Kind::Event => Self::Event { is_set: false, waiting: Line::default() },
            Kind::Queue => Self::Queue {
                most: target.limit,
                type_name,
                items: VecDeque::new(),
                next: queues << 40,
                getting: Line::default(),
                putting: Line::default(),
            },
            Kind::Variable => Self::Variable { type_name, value: None, waiting: Line::default() },
        }
    }

    /// What the caller takes it for, and it is not.
    fn mismatch(&self, target: &Target) -> Option<Refusal> {
        let other_limit = |most: u64| (most != target.limit).then_some(Refusal::OtherLimit { there: most });
        let other_type =
            |there: &String| (*there != target.type_name).then(|| Refusal::OtherType { there: there.clone() });
        match self {
            Self::Permits { most, .. } => other_limit(*most),
            Self::Event { .. } => None,
            Self::Queue { most, type_name, .. } => other_type(type_name).or_else(|| other_limit(*most)),
            Self::Variable { type_name, .. } => other_type(type_name),
        }
    }

    /// Does what a caller asks for. An error: it has to wait.
    fn try_now(
        &mut self,
        operation: Operation<V>,
        caller: Caller,
        ticket: u64,
        unused: &mut Vec<V>,
    ) -> Result<Answer<V>, Operation<V>> {
        Ok(match (self, operation) {
            (Self::Permits { most, holders, waiting }, Operation::Acquire) => {
                if holders.len() as u64 >= *most || !waiting.is_empty() {
                    return Err(Operation::Acquire);
                }
                holders.push(Holder { caller, lease: ticket });
                Answer::Done
            }
            (Self::Event { is_set, .. }, Operation::Set) => {
                *is_set = true;
                Answer::Done
            }
            (Self::Event { is_set, .. }, Operation::Clear) => {
                *is_set = false;
                Answer::Done
            }
            (Self::Event { is_set, .. }, Operation::IsSet) => Answer::Is(*is_set),
            (Self::Event { is_set, .. }, Operation::Wait) => match is_set {
                true => Answer::Done,
                false => return Err(Operation::Wait),
            },
            (Self::Queue { most, items, next, putting, .. }, Operation::Put(value)) => {
                if items.len() as u64 >= *most || !putting.is_empty() {
                    return Err(Operation::Put(value));
                }
                items.push_back((*next, value));
                *next += 1;
                Answer::Done
            }
            (Self::Queue { items, .. }, Operation::Get) => match items.pop_front() {
                Some((place, value)) => Answer::Item(value, place),
                None => return Err(Operation::Get),
            },
            (Self::Queue { items, .. }, Operation::Len) => Answer::Len(items.len() as u64),
            (Self::Variable { value, .. }, Operation::Store(new)) => {
                unused.extend(value.replace(new));
                Answer::Done
            }
            (Self::Variable { value, .. }, Operation::Load) => match value {
                Some(value) => Answer::Value(value.clone()),
                None => return Err(Operation::Load),
            },
            (Self::Variable { value, .. }, Operation::Delete) => {
                let old = value.take();
                let was_there = old.is_some();
                unused.extend(old);
                Answer::Is(was_there)
            }
            (_, operation) => {
                unused.extend(operation.into_value());
                Answer::Refused(Refusal::NoSuchOperation)
            }
        })
    }

    /// Puts a call into its line.
    fn enter(&mut self, number: u64, waiter: Waiter<()>, operation: Operation<V>) {
        match (self, operation) {
            (Self::Permits { waiting, .. } | Self::Event { waiting, .. } | Self::Variable { waiting, .. }, _) => {
                waiting.insert(number, waiter);
            }
            (Self::Queue { putting, .. }, Operation::Put(value)) => {
                putting.insert(number, waiter.with(value));
            }
            (Self::Queue { getting, .. }, _) => {
                getting.insert(number, waiter);
            }
        }
    }

    /// Has those go on who can, first come, first served.
    fn serve(&mut self, gone_on: &mut Vec<(Caller, u64, Answer<V>)>) {
        match self {
            Self::Permits { most, holders, waiting } => {
                while (holders.len() as u64) < *most
                    && let Some((_, next)) = waiting.pop_first()
                {
                    holders.push(Holder { caller: next.caller, lease: next.ticket });
                    gone_on.push((next.caller, next.ticket, Answer::Done));
                }
            }
            Self::Event { is_set, waiting } => {
                while *is_set && let Some((_, next)) = waiting.pop_first() {
                    gone_on.push((next.caller, next.ticket, Answer::Done));
                }
            }
            Self::Queue { most, items, next: place, getting, putting, .. } => loop {
                if !items.is_empty()
                    && let Some((_, next)) = getting.pop_first()
                    && let Some((place, value)) = items.pop_front()
                {
                    gone_on.push((next.caller, next.ticket, Answer::Item(value, place)));
                } else if (items.len() as u64) < *most
                    && let Some((_, next)) = putting.pop_first()
                {
                    items.push_back((*place, next.what));
                    *place += 1;
                    gone_on.push((next.caller, next.ticket, Answer::Done));
                } else {
                    break;
                }
            },
            Self::Variable { value, waiting, .. } => {
                let Some(value) = value else { return };
                while let Some((_, next)) = waiting.pop_first() {
                    gone_on.push((next.caller, next.ticket, Answer::Value(value.clone())));
                }
            }
        }
    }

    /// Whether it could as well not be there. The limit of a semaphore and what a queue is for are kept.
    fn is_blank(&self, kind: Kind) -> bool {
        match self {
            Self::Permits { holders, waiting, .. } => kind == Kind::Lock && holders.is_empty() && waiting.is_empty(),
            Self::Event { is_set, waiting } => !*is_set && waiting.is_empty(),
            Self::Queue { .. } => false,
            Self::Variable { value, waiting, .. } => value.is_none() && waiting.is_empty(),
        }
    }

    /// A call that waits.
    fn waiter(&self, number: u64) -> Option<(&Caller, Patience)> {
        match self {
            Self::Permits { waiting, .. } | Self::Event { waiting, .. } | Self::Variable { waiting, .. } => {
                waiting.get(&number).map(Waiter::who)
            }
            Self::Queue { getting, putting, .. } => {
                getting.get(&number).map(Waiter::who).or_else(|| putting.get(&number).map(Waiter::who))
            }
        }
    }

    /// Takes a call out of its line, with what it was to put.
    fn remove(&mut self, number: u64) -> Option<(Caller, Option<V>)> {
        match self {
            Self::Permits { waiting, .. } | Self::Event { waiting, .. } | Self::Variable { waiting, .. } => {
                waiting.remove(&number).map(|waiter| (waiter.caller, None))
            }
            Self::Queue { getting, putting, .. } => match getting.remove(&number) {
                Some(waiter) => Some((waiter.caller, None)),
                None => putting.remove(&number).map(|waiter| (waiter.caller, Some(waiter.what))),
            },
        }
    }

    fn holders(&self) -> &[Holder] {
        match self {
            Self::Permits { holders, .. } => holders,
            _ => &[],
        }
    }

    /// Who has that lease.
    fn holder(&self, session: SessionId, lease: u64) -> Option<&Caller> {
        let callers = self.holders().iter().filter(|holder| holder.lease == lease).map(|holder| &holder.caller);
        callers.into_iter().find(|caller| caller.session == session)
    }

    fn let_go(&mut self, session: SessionId, lease: u64) {
        if let Self::Permits { holders, .. } = self {
            holders.retain(|holder| holder.lease != lease || holder.caller.session != session);
        }
    }

    fn take_holders(&mut self) -> Vec<Holder> {
        match self {
            Self::Permits { holders, .. } => std::mem::take(holders),
            _ => Vec::new(),
        }
    }

    /// All calls that wait, taken out with all that lies here.
    fn end(self, unused: &mut Vec<V>) -> Vec<(Caller, u64)> {
        let of = |line: Line<()>| line.into_values().map(|waiter| (waiter.caller, waiter.ticket)).collect::<Vec<_>>();
        match self {
            Self::Permits { waiting, .. } | Self::Event { waiting, .. } => of(waiting),
            Self::Queue { items, getting, putting, .. } => {
                unused.extend(items.into_iter().map(|(_, value)| value));
                let mut waiting = of(getting);
                for (_, waiter) in putting {
                    waiting.push((waiter.caller, waiter.ticket));
                    unused.push(waiter.what);
                }
                waiting
            }
            Self::Variable { value, waiting, .. } => {
                unused.extend(value);
                of(waiting)
            }
        }
    }

    fn listed(&self, key: &Key) -> Listed {
        let (waiting, size, limit) = match self {
            Self::Permits { most, holders, waiting } => (waiting.len(), holders.len() as u64, Some(*most)),
            Self::Event { is_set, waiting } => (waiting.len(), u64::from(*is_set), None),
            Self::Queue { most, items, getting, putting, .. } => {
                (getting.len() + putting.len(), items.len() as u64, Some(*most))
            }
            Self::Variable { value, waiting, .. } => (waiting.len(), u64::from(value.is_some()), None),
        };
        Listed {
            scope: key.scope,
            kind: key.kind,
            name: Arc::clone(&key.name),
            holders: self.holders().iter().map(|holder| holder.caller).collect(),
            waiting: waiting as u64,
            size,
            limit,
        }
    }
}
