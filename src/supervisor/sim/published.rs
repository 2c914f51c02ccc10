//! Published results in the simulation: sessions publish what they have, have what others published, and vanish.
//!
//! Whoever has a published result is told its value as of any other; when all is unpublished and released, nothing is left.

use super::World;
use super::session::{Heard, Known};
use crate::error::PublishError;
use crate::ids::{JobId, SessionId, TaskId};
use crate::message::{Answer, Question};

/// The type that all are said to have.
const TYPE: &str = "u64";

/// What a session has asked for.
pub(super) enum Asked {
    /// To have something, and what it has heard of its parts before the answer.
    ToRead(Vec<(TaskId, Heard)>),
    /// To publish, or to unpublish.
    Other,
}

impl World {
    fn ask_about(&mut self, id: SessionId, question: Question, asked: Asked) {
        let Some(ticket) = self.question_of(id, question) else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.asked.insert(ticket, asked);
        }
    }

    /// A session does something with published results, at random.
    pub(super) fn publish_or_read(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.closed) else { return };
        let there = session.wanted.iter().filter(|(_, heard)| matches!(heard, Heard::Ready | Heard::Value));
        let there: Vec<TaskId> = there.map(|(id, _)| *id).collect();
        let some_there = self.rng.choice(there.clone());
        let names: Vec<String> = self.published.keys().cloned().collect();
        let some_name = self.rng.choice(names);
        match (self.rng.u8(0..8), some_there, some_name) {
            (0..3, Some(task), _) => {
                let name = format!("published-{}", self.published.len());
                let mut tasks = vec![task];
                tasks.extend(self.rng.choice(there).filter(|_| self.rng.bool()));
                self.published.insert(name.clone(), tasks.clone());
                self.publish(id, name, tasks);
            }
            // A name that is, or was, another one's.
            (3, Some(task), Some(name)) if self.published[&name] == [task] => self.publish(id, name, vec![task]),
            (4..7, _, Some(name)) => self.read_published(id, name),
            (7, _, Some(name)) => self.unpublish(id, name),
            _ => {}
        }
    }

    fn publish(&mut self, id: SessionId, name: String, tasks: Vec<TaskId>) {
        let question = Question::Publish { name, type_name: TYPE.to_string(), tasks };
        self.ask_about(id, question, Asked::Other);
    }

    fn read_published(&mut self, id: SessionId, name: String) {
        let mut sources = self.published[&name].clone();
        if self.rng.u8(..) < 20 {
            // Fewer than there are: that is told.
            sources.pop();
        }
        let mut parts = Vec::new();
        for source in sources {
            let task = TaskId { job: JobId { session: id, number: self.jobs }, index: 0 };
            self.jobs += 1;
            let Known { kind, value, .. } = self.known[&source];
            self.known.insert(task, Known { kind, value, inputs: vec![source], picky: false });
            parts.push((task, Heard::Nothing));
        }
        let numbers = parts.iter().map(|(task, _)| task.job.number).collect();
        let wanted = if self.rng.u8(..) < 20 { "String" } else { TYPE };
        let question = Question::Published { name, type_name: wanted.to_string(), numbers };
        self.ask_about(id, question, Asked::ToRead(parts));
    }

    fn unpublish(&mut self, id: SessionId, name: String) {
        self.ask_about(id, Question::Unpublish(name), Asked::Other);
    }

    /// A session hears the answer to a question about published results.
    pub(super) fn answered(&mut self, id: SessionId, ticket: u64, answer: &Answer) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match (session.asked.remove(&ticket), answer) {
            (Some(Asked::ToRead(parts)), Answer::Done) => session.wanted.extend(parts),
            (
                Some(Asked::ToRead(..)),
                Answer::OtherCount(_)
                | Answer::NotPublished(PublishError::Missing { .. } | PublishError::WrongType { .. }),
            )
            | (
                Some(Asked::Other),
                Answer::Done | Answer::NotPublished(PublishError::Missing { .. } | PublishError::Taken { .. }),
            )
            | (None, _) => {}
            (Some(_), answer) => panic!("{id:?} is answered {answer:?}"),
        }
    }

    /// Nothing is published any more.
    pub(super) fn unpublish_all(&mut self) {
        for name in self.core.published_names() {
            self.unpublish(SessionId::CLIENT, name);
        }
    }
}
