//! Runs a failed task again where a debugger can see it.

use super::Client;
use super::blocking::spawn_blocking;
use crate::delayed::Delayed;
use crate::error::{Error, Result};
use crate::graph::Dag;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Arg, Kind, Node};
use crate::submission::backend::Want;
use crate::submission::handle::{AllResults, ResultHandle};
use crate::task::function::{Argument, Record};
use crate::task::{Data, Value};
use smallvec::SmallVec;
use std::sync::Arc;

impl Client {
    /// Repeats the task that makes `what` fail, in this thread, with its real inputs.
    ///
    /// The client computes the inputs; then the function is called here, with nothing around it that catches a panic,
    /// so that a debugger stops in it and a backtrace is plain. If it works this time, the rest is computed from its
    /// result, and the value returned.
    ///
    /// # Errors
    /// As [`compute`](Self::compute), for a task that returns `Err` again.
    ///
    /// # Panics
    /// As the task does.
    pub fn replay<T: Data>(&self, what: &Delayed<T>) -> Result<T> {
        let error = match self.compute(what) {
            Ok(value) => return Ok(value),
            Err(Error::Task(error)) => error,
            Err(other) => return Err(other),
        };
        let graph = Dag::of(&[what.node()]);
        let Some(failed) = graph.nodes.iter().find(|n| n.key() == error.key()) else {
            return Err(Error::Task(error));
        };
        let Kind::Call { function, args, .. } = &failed.kind else { return Err(Error::Task(error)) };
        let mut inputs = Vec::new();
        failed.each_input(&mut |input| inputs.push(Arc::clone(input)));
        let mut values = self.values_of(&inputs)?.into_iter();
        let mut arguments: SmallVec<[Argument<'_>; 4]> = SmallVec::new();
        for arg in args {
            arguments.push(Argument::Value(self.argument(arg, &mut values)?));
        }
        match function.run(&mut arguments) {
            Ok(_) if function.has_parts() => self.compute(what),
            Ok(value) if failed.hash() == what.node().hash() => value.take().ok_or(Error::Task(error)),
            Ok(value) => self.compute_rest(what, failed, value, function),
            Err(_) => Err(Error::Task(error)),
        }
    }

    /// [`replay`](Self::replay) for async code: the task is repeated in a thread of its own.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    ///
    /// # Panics
    /// As the task does.
    pub async fn replay_async<T: Data>(&self, what: &Delayed<T>) -> Result<T> {
        let (client, what) = (self.clone(), what.clone());
        spawn_blocking(move || client.replay(&what)).await?
    }

    /// Computes what is left when the value of one of its tasks is given.
    fn compute_rest<T: Data>(
        &self,
        what: &Delayed<T>,
        given: &Arc<Node>,
        value: Value,
        function: &'static Record,
    ) -> Result<T> {
        let submission = self.backend().scatter(vec![(value, function.result(), TaskLabel::of(given))], false)?;
        let output = ResultHandle::new(&submission, 0);
        let known = |node: &Arc<Node>| (node.hash() == given.hash()).then(|| output.held());
        let graph = Dag::with_known(&[what.node()], Some(&known));
        let submission = AllResults(self.backend().submit(graph, Want::Values)?);
        submission.0.wait_all(None);
        submission.0.take(0)?.into_typed(&submission.0, 0)
    }

    fn argument(&self, arg: &Arg, values: &mut dyn Iterator<Item = Value>) -> Result<Value> {
        let missing = || Error::invalid("argument", "an input of the task could not be computed again");
        Ok(match arg {
            Arg::Value(value, _) => value.clone(),
            Arg::Task(_) | Arg::Elements(_) => values.next().ok_or_else(missing)?,
            Arg::Inline(record, args) => {
                let mut arguments = Vec::with_capacity(args.len());
                for arg in args {
                    arguments.push(Argument::Value(self.argument(arg, values)?));
                }
                record.run(&mut arguments).map_err(|_| missing())?
            }
        })
    }

    /// Computes nodes whose types are known only to their codecs.
    fn values_of(&self, nodes: &[Arc<Node>]) -> Result<Vec<Value>> {
        let roots: Vec<_> = nodes.iter().collect();
        let graph = self.graph(&roots)?;
        let outputs = graph.outputs();
        let indices: Vec<_> = graph.roots.iter().map(|r| outputs.binary_search(r).unwrap_or_default() as u32).collect();
        let submission = AllResults(self.backend().submit(graph, Want::Values)?);
        submission.0.wait_all(None);
        indices
            .into_iter()
            .map(|index| {
                let output = ResultHandle::new(&submission.0, index);
                match output.wait_here(None) {
                    Some(here) => here?.into_value(&output.label()),
                    None => Err(Error::Closed { reason: "the inputs did not come".to_string() }),
                }
            })
            .collect()
    }
}
