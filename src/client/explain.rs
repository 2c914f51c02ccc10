//! Why a task is where it is.

use super::blocking::spawn_blocking;
use super::{Client, Future};
use crate::error::{KeyError, Result};
use crate::events::explain::KeySearch;
use crate::job::explained::{Explained, FindFrom};
use crate::message::question;
use crate::status::{Explanation, Totals};
use crate::submission::context::ClientId;
use crate::submission::explain::{called, of_output};
use crate::submission::handle::ResultHandle;
use crate::submission::reply::Asked;
use swath_insight::TaskState;
use swath_insight::explain::{KeyPrefix, TaskName, Why};

impl Client {
    /// Why a task has no result yet, where its result is, or what became of it: which inputs are missing, and why those are;
    /// where it runs, and for how long; what it waits for. The client that the future is of answers, whichever is asked.
    ///
    /// Its text says it in plain words; [`why`](Explanation::why) is the same as data. Takes less than a millisecond, whatever
    /// else there is to do.
    ///
    /// ```
    /// use swath::status::explain::Why;
    /// # use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let failed = client.submit(&delayed(|x: i64| 10 / x).name("tenth").call(0))?;
    /// assert!(failed.result().is_err());
    /// let told = client.explain(&failed)?;
    /// assert!(matches!(&told.why, Why::Failed { error, root: None } if error.contains("divide by zero")));
    /// println!("{told}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the future's client is closed.
    pub fn explain<T>(&self, future: &Future<T>) -> Result<Explanation> {
        let output = future.output();
        let told = Asked::<question::Explain>::new(output.explain()).wait()?;
        Ok(self.explained(output, told))
    }

    /// [`explain`](Self::explain) for async code.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub async fn explain_async<T>(&self, future: &Future<T>) -> Result<Explanation> {
        let output = future.output();
        let told = Asked::<question::Explain>::new(output.explain()).await?;
        Ok(self.explained(output, told))
    }

    /// The same of a task by its key, or the beginning of that, where no other key begins so: also of tasks without a future,
    /// of those that other tasks have submitted, and of those that have ended, as long as the last runs of the workers are
    /// [kept](crate::client::Builder::events). Of several tasks of one key, the one that was submitted last is meant.
    ///
    /// There is no index of keys: to find one among a million tasks takes a fraction of a second, in small parts, between which
    /// others have their turn.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let parse = delayed(|x: i64| x + 1).name("parse").call(1);
    /// client.compute(&delayed(|x: i64| x * 2).call(&parse))?;
    /// let told = client.explain_key("parse")?;
    /// assert_eq!((told.task.name.as_str(), told.cost.runs), ("parse", 1));
    /// assert!(client.explain_key("nope").is_err());
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`](crate::Error::Key) where no task is known whose key begins so, or several are; as
    /// [`explain`](Self::explain).
    pub fn explain_key(&self, key: &str) -> Result<Explanation> {
        let mut search = KeySearch::new(key, true);
        let mut from = Some(FindFrom::default());
        while let Some(next) = from {
            let found = self.ask(question::Find { prefix: key.to_string(), from: next }).wait()?;
            from = search.take(found);
        }
        let prefix = search.prefix().clone();
        // Results that are held are known by their keys when nothing else of their tasks is.
        let held = if prefix.whole().is_some() && search.has_live() { Vec::new() } else { self.held_outputs(&prefix) };
        let found = search.only(held.iter().map(|(key, _)| key.clone()))?;
        match (found, held.into_iter().next()) {
            (Some((called, found)), None) if found.seq.is_none() => {
                Ok(self.0.log.explain_found((called, found), None, true))
            }
            (Some((called, found)), _) if found.seq.is_some() => {
                let told = self.ask(question::Explain(found.task)).wait()?;
                Ok(self.0.log.explain_found((called, found), Some(told), true))
            }
            (_, Some((_, output))) => self.explain_output(&output),
            (_, None) => self.forgotten(&prefix),
        }
    }

    /// [`explain_key`](Self::explain_key) for async code.
    ///
    /// # Errors
    /// As [`explain_key`](Self::explain_key).
    pub async fn explain_key_async(&self, key: &str) -> Result<Explanation> {
        let (client, key) = (self.clone(), key.to_string());
        spawn_blocking(move || client.explain_key(&key)).await?
    }

    fn explain_output(&self, output: &ResultHandle) -> Result<Explanation> {
        let told = Asked::<question::Explain>::new(output.explain()).wait()?;
        Ok(self.explained(output, told))
    }

    /// An explanation of an output, with all that is known here.
    fn explained(&self, output: &ResultHandle, mut told: Explained) -> Explanation {
        let submission = &output.submission;
        let label = called(&submission.label(output.index));
        if told.is_gone()
            && let Some((state, why)) = of_output(submission, output.index)
        {
            (told.explanation.state, told.explanation.why) = (state, why);
        }
        let task = &mut told.explanation.task;
        (task.name, task.key) = (label.name.clone(), label.key.clone());
        let is_own = ClientId::of(&**submission.backend()) == ClientId::of(&*self.0.backend);
        let mut explanation = self.0.log.explanation(told, true);
        if !is_own {
            explanation.timeline.submitted = None;
            explanation.task.label = None;
        }
        if let Why::Forgotten { totals } = &mut explanation.why {
            *totals = self.totals(&label.name);
        }
        explanation
    }

    /// Outputs that somebody holds whose keys begin so: one of each key, and no more than an error names.
    fn held_outputs(&self, prefix: &KeyPrefix) -> Vec<(String, ResultHandle)> {
        let numbers = prefix.any_numbers();
        let mut found: Vec<(String, ResultHandle)> = Vec::new();
        for submission in self.0.backend.held() {
            for index in 0..submission.len() as u32 {
                let number = (submission.hash(index) >> 64) as u64;
                if !numbers.contains(&number) || found.len() > KeyError::NAMED {
                    continue;
                }
                let label = called(&submission.label(index));
                let is_new = || !found.iter().any(|(key, _)| *key == label.key);
                // Of one that is being let go there is nothing to tell.
                if prefix.fits(&label.name, number) && is_new() && submission.handles(index).add_to_some() {
                    found.push((label.key, ResultHandle::new(&submission, index)));
                }
            }
        }
        found
    }

    /// What is left of a task that nothing else is known of: the totals of its name.
    fn forgotten(&self, prefix: &KeyPrefix) -> Result<Explanation> {
        let known = prefix.whole().map(|(name, number)| (TaskName::of(name, number), self.totals(name)));
        match known.filter(|(_, totals)| totals.counts.total() > 0) {
            Some((name, totals)) => Ok(Explanation::new(name, TaskState::Released, Why::Forgotten { totals })),
            None => Err(KeyError::unknown(prefix.text()).into()),
        }
    }

    fn totals(&self, name: &str) -> Totals {
        let mut totals = Totals::default();
        let groups = self.0.backend.progress().groups;
        groups.iter().filter(|group| group.name == name).for_each(|group| totals += group.totals());
        totals
    }
}
