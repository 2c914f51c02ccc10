//! The operator asks why a task is where it is: one of any program.

use super::actor::{Daemon, GetOverview, Overview};
use super::commands::{Answer, sent};
use crate::error::KeyError;
use crate::events::explain::KeySearch;
use crate::job::explained::{FindFrom, FoundTask};
use crate::supervisor::actor::{ExplainTask, FindTasks, Supervisor};
use actix::prelude::*;
use swath_insight::explain::{Explanation, KeyPrefix, TaskName};

/// Why the task is where it is whose key begins so.
pub(super) async fn explain(cluster: &Addr<Daemon>, key: &str) -> Answer<std::result::Result<Explanation, KeyError>> {
    let Overview { status, supervisors, log } = sent(cluster.send(GetOverview).await)?;
    let mut found: Vec<(String, Addr<Supervisor>, (TaskName, FoundTask))> = Vec::new();
    for (program, supervisor) in status.programs.iter().zip(supervisors) {
        match search(&supervisor, key).await {
            Ok(Some(task)) => found.push((program.program.clone(), supervisor, task)),
            Ok(None) => {}
            Err(ambiguous) => return Ok(Err(ambiguous)),
        }
    }
    // The same call of several programs: the one that is there is meant.
    let is_one = found.windows(2).all(|two| two[0].2.0.key == two[1].2.0.key);
    if is_one {
        found.sort_by_key(|(.., (_, task))| task.seq.is_some());
        found.drain(..found.len().saturating_sub(1));
    }
    if found.len() > 1 {
        let keys = found.iter().map(|(program, _, (name, _))| format!("{} of {program}", name.key));
        return Ok(Err(KeyError::ambiguous(key, keys.collect())));
    }
    let Some((_, supervisor, (name, task))) = found.pop() else {
        return Ok(Err(KeyError::unknown(KeyPrefix::new(key).text())));
    };
    let told = match task.seq {
        // One that stops meanwhile tells no more.
        Some(_) => supervisor.send(ExplainTask(task.task)).await.ok().flatten(),
        None => None,
    };
    Ok(Ok(log.explain_found((name, task), told, false)))
}

/// The task of a program. Between two parts of the search its supervisor does other things.
async fn search(supervisor: &Addr<Supervisor>, key: &str) -> Result<Option<(TaskName, FoundTask)>, KeyError> {
    let mut search = KeySearch::new(key, false);
    let mut from = Some(FindFrom::default());
    while let Some(next) = from {
        let prefix = search.prefix().clone();
        let Ok(Some(found)) = supervisor.send(FindTasks { prefix, from: next }).await else { break };
        from = search.take(found);
    }
    search.only(std::iter::empty())
}
