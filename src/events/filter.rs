//! Which events somebody wants to see.

use super::{Event, EventKind, Outcome, Run};

/// What [`Client::watch_events`](crate::Client::watch_events) gives. Each call narrows it; without any, it is everything.
///
/// ```
/// use swath::events::EventFilter;
/// let failed_parses = EventFilter::default().runs().failed().name("parse");
/// let notes = EventFilter::default().topic("loss");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is nothing but a description"]
pub struct EventFilter {
    only: Option<Only>,
    failed: bool,
    graph: Option<u32>,
    names: Vec<String>,
    topics: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Runs,
    Events,
}

impl EventFilter {
    /// Runs of tasks only.
    pub fn runs(mut self) -> Self {
        self.only = Some(Only::Runs);
        self
    }

    /// Only what is no run of a task.
    pub fn events(mut self) -> Self {
        self.only = Some(Only::Events);
        self
    }

    /// Of runs only those that failed or were lost with their worker, of events only deaths of workers and attempts that are
    /// repeated.
    pub fn failed(mut self) -> Self {
        self.failed = true;
        self
    }

    /// Only what is about the graph of that number.
    pub fn graph(mut self, number: u32) -> Self {
        self.graph = Some(number);
        self
    }

    /// Only runs of tasks of that name; of several calls, of any of the names.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Only [notes](crate::client::note()) about that topic; of several calls, about any of the topics.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    pub(crate) fn takes_run(&self, run: &Run) -> bool {
        self.only != Some(Only::Events)
            && self.topics.is_empty()
            && (!self.failed || matches!(run.outcome, Outcome::Failed | Outcome::Lost))
            && self.graph.is_none_or(|graph| graph == run.graph)
            && (self.names.is_empty() || self.names.iter().any(|name| **name == *run.name))
    }

    pub(crate) fn takes_event(&self, event: &Event) -> bool {
        let graph = match &event.kind {
            EventKind::GraphSubmitted { graph, .. }
            | EventKind::GraphFinished { graph, .. }
            | EventKind::GraphCancelled { graph }
            | EventKind::GroupNamed { graph, .. } => Some(*graph),
            _ => None,
        };
        let is_topic = |topic: &String| self.topics.iter().any(|wanted| wanted == topic);
        self.only != Some(Only::Runs)
            && self.names.is_empty()
            && (!self.failed || matches!(event.kind, EventKind::WorkerLost { .. } | EventKind::Retried { .. }))
            && self.graph.is_none_or(|wanted| graph == Some(wanted))
            && (self.topics.is_empty() || matches!(&event.kind, EventKind::Note { topic, .. } if is_topic(topic)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_condition_narrows() {
        let mut run = Run::new("parse", 1, "w", Duration::ZERO);
        run.graph = 3;
        run.ended(Duration::ZERO, Outcome::Failed);
        let event = |kind| Event::new(Duration::ZERO, kind);
        let note = event(EventKind::Note { key: None, topic: "loss".to_string(), value: 1.into() });
        let graph = event(EventKind::GraphCancelled { graph: 3 });
        let f = EventFilter::default;
        for (filter, expected) in [
            (f(), [true, true, true]),
            (f().runs(), [true, false, false]),
            (f().events(), [false, true, true]),
            (f().failed(), [true, false, false]),
            (f().graph(3), [true, false, true]),
            (f().graph(4), [false, false, false]),
            (f().name("load").name("parse"), [true, false, false]),
            (f().name("load"), [false, false, false]),
            (f().topic("loss"), [false, true, false]),
            (f().topic("x"), [false, false, false]),
        ] {
            let taken = [filter.takes_run(&run), filter.takes_event(&note), filter.takes_event(&graph)];
            assert_eq!(taken, expected, "{filter:?}");
        }
    }
}
