//! A rule as pictures see it: what its tasks use, counted without making them.

use super::rule::{List, Rule, Source};
use crate::client::{LayerRule, RuleInput};
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use swath_insight::picture::Link;

impl LayerRule for Rule {
    fn name(&self) -> String {
        Self::name(self)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn can_stream(&self) -> bool {
        self.function.stream().is_some()
    }

    fn rules(&self) -> Vec<Arc<dyn LayerRule>> {
        let rules = self.inputs.iter().filter_map(|input| match input {
            Source::Chunks(chunks) => match &chunks.list {
                List::Rule(rule) => Some(Arc::clone(rule) as Arc<dyn LayerRule>),
                List::Tasks(_) => None,
            },
            _ => None,
        });
        rules.collect()
    }

    fn inputs(&self) -> Vec<RuleInput> {
        self.inputs.iter().filter_map(|input| self.input(input)).collect()
    }
}

impl Rule {
    fn input(&self, source: &Source) -> Option<RuleInput> {
        let len = self.len as u64;
        match source {
            Source::Failed(_) => None,
            Source::Same(arg) | Source::Times(arg, _) => {
                let tasks = tasks_of([arg]);
                let (n, many) = (tasks.len() as u64, len > 1);
                let link = match (n, many) {
                    (0, _) => return None,
                    (1, false) => Link::OneToOne,
                    (1, true) => Link::OneToMany,
                    (_, false) => Link::ManyToOne,
                    (_, true) => Link::AllToAll,
                };
                Some(RuleInput::Tasks { tasks, link, edges: n.saturating_mul(len) })
            }
            Source::Each(args) => {
                let tasks = tasks_of(args.iter());
                let (edges, most) = uses(args);
                let shared = edges > tasks.len() as u64;
                let link = match (most, shared) {
                    (0, _) => return None,
                    (1, false) => Link::OneToOne,
                    (1, true) => Link::OneToMany,
                    (_, false) => Link::ManyToOne,
                    (_, true) => Link::Neighbours,
                };
                Some(RuleInput::Tasks { tasks, link, edges })
            }
            Source::Chunks(chunks) => {
                let shared = chunks.numbers.as_ref().is_some_and(|numbers| {
                    let mut met = FxHashSet::default();
                    !numbers.iter().all(|number| met.insert(*number))
                });
                let link = if shared { Link::OneToMany } else { Link::OneToOne };
                Some(match &chunks.list {
                    List::Rule(rule) => {
                        let rule = Arc::clone(rule) as Arc<dyn LayerRule>;
                        RuleInput::Rule { rule, link, edges: len, elements: chunks.elements }
                    }
                    List::Tasks(tasks) => {
                        let node = |i: usize| Arc::clone(tasks.node(i));
                        let tasks = match &chunks.numbers {
                            None => (0..self.len).map(node).collect(),
                            Some(numbers) => {
                                let mut met = FxHashSet::default();
                                numbers
                                    .iter()
                                    .filter(|number| met.insert(**number))
                                    .map(|number| node(*number))
                                    .collect()
                            }
                        };
                        RuleInput::Tasks { tasks, link, edges: len }
                    }
                })
            }
        }
    }
}

/// The tasks that arguments use, each once.
fn tasks_of<'a>(args: impl IntoIterator<Item = &'a Arg>) -> Vec<Arc<Node>> {
    let (mut tasks, mut met) = (Vec::new(), FxHashSet::default());
    for arg in args {
        arg.each_task(&mut |node| {
            if met.insert(Arc::as_ptr(node)) {
                tasks.push(Arc::clone(node));
            }
        });
    }
    tasks
}

/// How often arguments use tasks, and how many the one does that uses the most.
fn uses(args: &[Arg]) -> (u64, u64) {
    let (mut all, mut most) = (0, 0);
    for arg in args {
        let mut met: FxHashSet<*const Node> = FxHashSet::default();
        arg.each_task(&mut |node| _ = met.insert(Arc::as_ptr(node)));
        all += met.len() as u64;
        most = most.max(met.len() as u64);
    }
    (all, most)
}
