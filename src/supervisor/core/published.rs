//! Published results: claims of nobody's session, by name, which sessions have aliases of.

use super::Core;
use crate::error::PublishError;
use crate::ids::{JobId, SessionId, TaskId, WorkerId};
use crate::message::Answer;
use crate::status::{Published, SharedObject};
use crate::supervisor::effects::Effects;
use std::collections::{BTreeMap, BTreeSet};

/// What is published, by name.
#[derive(Default)]
pub(super) struct PublishedResults {
    results: BTreeMap<String, PublishedResult>,
    /// How many there have been.
    count: u32,
}

struct PublishedResult {
    /// The numbers of the jobs that are aliases of it; one for each result of a list.
    jobs: Vec<u32>,
    type_name: String,
}

fn published_job(number: u32) -> JobId {
    JobId { session: SessionId::PUBLISHED, number }
}

fn only_task(job: JobId) -> TaskId {
    TaskId { job, index: 0 }
}

impl Core {
    /// Keeps results of the session's under a name, until it is unpublished.
    pub(super) fn publish<E: Effects>(
        &mut self,
        session: SessionId,
        name: String,
        type_name: String,
        tasks: &[TaskId],
        fx: &mut E,
    ) -> Answer {
        if self.published.results.contains_key(&name) {
            return Answer::NotPublished(PublishError::Taken { name });
        }
        if let Err(there) = fx.take_name(&name) {
            return Answer::NotPublished(self.other_build(name, there));
        }
        let mut jobs = Vec::with_capacity(tasks.len());
        for &task in tasks {
            let job = published_job(self.published.count);
            let taken = match task.job.session == session {
                true => self.scheduler.alias(job, task, self.now(fx)).map_err(|e| e.to_string()),
                false => Err(format!("task {task} is of another session")),
            };
            if let Err(why) = taken {
                fx.free_name(&name);
                self.release_all(&jobs);
                return Answer::Refused { what: format!("the result to publish as `{name}`"), why };
            }
            self.published.count += 1;
            jobs.push(job.number);
        }
        self.published.results.insert(name, PublishedResult { jobs, type_name });
        Answer::Done
    }

    fn release_all(&mut self, jobs: &[u32]) {
        jobs.iter().for_each(|number| self.scheduler.release(published_job(*number), &[0]));
    }

    /// Has jobs of the session be aliases of what is published under that name, if they are as many.
    pub(super) fn read_published<E: Effects>(
        &mut self,
        session: SessionId,
        name: String,
        wanted: String,
        numbers: &[u32],
        fx: &mut E,
    ) -> Answer {
        let Some(result) = self.published.results.get(&name) else {
            return Answer::NotPublished(self.missing(name, fx));
        };
        if result.type_name != wanted {
            let there = result.type_name.clone();
            return Answer::NotPublished(PublishError::WrongType { name, wanted, there });
        }
        if result.jobs.len() != numbers.len() {
            return Answer::OtherCount(result.jobs.len());
        }
        let now = self.now(fx);
        for (&number, &published) in numbers.iter().zip(&result.jobs) {
            let of = only_task(published_job(published));
            if let Err(e) = self.scheduler.alias(JobId { session, number }, of, now) {
                return Answer::Refused { what: format!("what is published as `{name}`"), why: e.to_string() };
            }
        }
        Answer::Done
    }

    /// Lets go of what is published under that name. Who has it keeps it.
    pub(super) fn unpublish<E: Effects>(&mut self, name: String, fx: &mut E) -> Answer {
        match self.published.results.remove(&name) {
            Some(result) => {
                fx.free_name(&name);
                self.release_all(&result.jobs);
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

    /// The workers that have a published result, none for the supervisor, and its size. None: some of it is being made again.
    fn place_of(&self, result: &PublishedResult) -> Option<(BTreeSet<Option<WorkerId>>, u64)> {
        let tasks: Vec<TaskId> = result.jobs.iter().map(|number| only_task(published_job(*number))).collect();
        let found = self.scheduler.results(SessionId::PUBLISHED, Some(&tasks));
        let sum = found.iter().map(|(_, _, nbytes)| nbytes).sum();
        (found.len() == tasks.len()).then(|| (found.into_iter().map(|(_, holder, _)| holder).collect(), sum))
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
        let holder = |worker: Option<WorkerId>| {
            worker.map_or_else(|| "supervisor".to_string(), |worker| self.name_of(worker).to_string())
        };
        self.published.results.iter().map(move |(name, result)| {
            let (holders, size) = self.place_of(result).unwrap_or_default();
            let mut holders: Vec<String> = holders.into_iter().map(holder).collect();
            holders.sort_unstable();
            SharedObject {
                kind: "published".to_string(),
                name: name.clone(),
                connection: 0,
                holders,
                size,
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
