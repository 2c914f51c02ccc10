//! What a scheduler mode must be able to do for a client.

use super::output::{Label, Run};
use super::{Mode, Progress, WorkerInfo};
use crate::error::{DeathRecord, Error, Result};
use crate::graph::Graph;
use crate::task::Value;
use crate::task::codec::Codec;
use std::sync::Arc;
use std::time::Duration;

/// What to do with the results of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Bring them to the client.
    Values,
    /// Keep them where they are until they are asked for or released.
    Handles,
}

/// One of the three modes, as a client's operations see it.
pub(crate) trait Backend: Send + Sync {
    fn mode(&self) -> Mode;

    fn describe(&self) -> String;

    /// Starts running a graph.
    fn submit(self: Arc<Self>, graph: Graph, want: Want) -> Result<Arc<Run>>;

    /// Gives values to the workers. `broadcast`: a copy of it to each of them beforehand.
    fn scatter(self: Arc<Self>, values: Vec<(Value, &'static Codec, Label)>, broadcast: bool) -> Result<Arc<Run>>;

    /// Brings the value of an output that is done, but not here.
    fn ask(&self, run: &Run, slot: u32);

    /// Nobody wants these outputs any more; what only they need is cancelled. Unknown and repeated ones are ignored.
    fn release(&self, run: &Run, slots: &[u32]);

    /// Fails these outputs as cancelled, and cancels what only they need.
    fn cancel(&self, run: &Arc<Run>, slots: &[u32]);

    /// Runs a failed output's graph again.
    fn retry(self: Arc<Self>, run: &Arc<Run>, slot: u32) -> Result<()>;

    fn progress(&self) -> Progress;

    /// Why an output is not there yet.
    fn explain(&self, run: &Run, slot: u32) -> Result<String>;

    fn shutdown(&self);

    fn is_closed(&self) -> bool;

    fn workers(&self) -> Result<Vec<WorkerInfo>>;

    fn wait_for_workers(&self, n: usize, timeout: Duration) -> Result<()>;

    fn deaths(&self) -> Result<Vec<DeathRecord>> {
        Ok(Vec::new())
    }

    fn logs(&self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn scale(&self, _n: usize) -> Result<()> {
        Err(Error::Unsupported { operation: "scale", mode: self.mode().name() })
    }

    fn restart(&self) -> Result<()> {
        Err(Error::Unsupported { operation: "restart", mode: self.mode().name() })
    }
}
