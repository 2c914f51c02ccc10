//! Published results: claims of nobody's session, by name, which sessions have aliases of.

use super::Core;
use crate::error::PublishError;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::message::Answer;
use crate::status::{Published, SharedObject};
use crate::supervisor::effects::Effects;
use std::collections::BTreeMap;

/// What is published, by name.
#[derive(Default)]
pub(super) struct PublishedResults {
    results: BTreeMap<String, PublishedResult>,
    /// How many there have been.
    count: u32,
}

struct PublishedResult {
    job: JobId,
    type_name: String,
}

impl PublishedResult {
    fn task(&self) -> TaskId {
        TaskId { job: self.job, index: 0 }
    }
}

impl Core {
    /// Keeps a result of the session's under a name, until it is unpublished.
    pub(super) fn publish<E: Effects>(
        &mut self,
        session: SessionId,
        name: String,
        type_name: String,
        task: TaskId,
        fx: &mut E,
    ) -> Answer {
        if self.published.results.contains_key(&name) {
            return Answer::NotPublished(PublishError::Taken { name });
        }
        if let Err(there) = fx.take_name(&name) {
            return Answer::NotPublished(self.other_build(name, there));
        }
        let job = JobId { session: SessionId::PUBLISHED, number: self.published.count };
        let taken = match task.job.session == session {
            true => self.scheduler.alias(job, task, self.now(fx)).map_err(|e| e.to_string()),
            false => Err(format!("task {task} is of another session")),
        };
        if let Err(why) = taken {
            fx.free_name(&name);
            return Answer::Refused { what: format!("the result to publish as `{name}`"), why };
        }
        self.published.count += 1;
        self.published.results.insert(name, PublishedResult { job, type_name });
        Answer::Done
    }

    /// Has a job of the session be an alias of what is published under that name.
    pub(super) fn read_published<E: Effects>(
        &mut self,
        job: JobId,
        name: String,
        wanted: String,
        fx: &mut E,
    ) -> Answer {
        let Some(result) = self.published.results.get(&name) else {
            return Answer::NotPublished(self.missing(name, fx));
        };
        if result.type_name != wanted {
            let there = result.type_name.clone();
            return Answer::NotPublished(PublishError::WrongType { name, wanted, there });
        }
        match self.scheduler.alias(job, result.task(), self.now(fx)) {
            Ok(()) => Answer::Done,
            Err(e) => Answer::Refused { what: format!("what is published as `{name}`"), why: e.to_string() },
        }
    }

    /// Lets go of what is published under that name. Who has it keeps it.
    pub(super) fn unpublish<E: Effects>(&mut self, name: String, fx: &mut E) -> Answer {
        match self.published.results.remove(&name) {
            Some(result) => {
                fx.free_name(&name);
                self.scheduler.release(result.job, &[0]);
                Answer::Done
            }
            None => Answer::NotPublished(self.missing(name, fx)),
        }
    }

    fn missing<E: Effects>(&self, name: String, fx: &E) -> PublishError {
        match fx.name_elsewhere(&name) {
            Some(there) => self.other_build(name, there),
            None => PublishError::Missing { name },
        }
    }

    fn other_build(&self, name: String, there: String) -> PublishError {
        PublishError::OtherBuild { name, here: self.program.build.to_string(), there }
    }

    /// Where a published result is, and its size. None: it is being made again.
    fn place_of(&self, result: &PublishedResult) -> Option<(Option<WorkerId>, u64)> {
        let found = self.scheduler.results(SessionId::PUBLISHED, Some(&[result.task()]));
        found.first().map(|(_, holder, nbytes)| (*holder, *nbytes))
    }

    pub(super) fn list_published(&self) -> Vec<Published> {
        let told = |(name, result): (&String, &PublishedResult)| {
            let nbytes = self.place_of(result).map(|(_, nbytes)| nbytes);
            Published::new(name.clone(), result.type_name.clone(), nbytes)
        };
        self.published.results.iter().map(told).collect()
    }

    /// The same, for whoever looks on.
    pub(super) fn published_objects(&self) -> impl Iterator<Item = SharedObject> + '_ {
        self.published.results.iter().map(|(name, result)| {
            let place = self.place_of(result);
            let holder = place.map(|(holder, _)| match holder {
                Some(worker) => self.name_of(worker).to_string(),
                None => "supervisor".to_string(),
            });
            SharedObject {
                kind: "published".to_string(),
                name: name.clone(),
                connection: 0,
                holders: holder.into_iter().collect(),
                size: place.map_or(0, |(_, nbytes)| nbytes),
                limit: None,
                waiting: 0,
            }
        })
    }

    /// The names there are.
    #[cfg(test)]
    pub(crate) fn published_names(&self) -> Vec<String> {
        self.published.results.keys().cloned().collect()
    }
}
