//! Inside of tasks: which task runs, whether it is to stop, what it keeps in its process, and what values it can take.

// Not public: functions that can be named in another process, values, and how they are encoded.

pub(crate) mod backtrace;
pub(crate) mod building;
pub(crate) mod call;
pub(crate) mod codec;
pub(crate) mod context;
mod depth;
pub(crate) mod encode;
pub(crate) mod function;
pub(crate) mod image;
pub(crate) mod parts;
pub(crate) mod program;
pub(crate) mod returned;
pub(crate) mod run;
pub(crate) mod run_times;
pub(crate) mod shared_input;
pub(crate) mod size;
mod value;
pub(crate) mod wait;
pub(crate) mod worker_local;

pub use context::{TaskInfo, cancelled, current_task, progress, set_progress};
pub use worker_local::WorkerLocal;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use value::{Owned, Value};

/// A value that tasks can take and return: it can be cloned, shared between threads and sent to another process.
///
/// Implemented for every type that is `Clone + Send + Sync + 'static` and has serde's `Serialize` and
/// `Deserialize`. Nothing is serialised unless a value really leaves its process; large types should be cheap to
/// clone ([`Buffer`](crate::Buffer), `Arc<T>`).
///
/// The bytes between processes do not say what comes next, so a type that asks them cannot be read from there, and the
/// task fails: `serde_json::Value` and types with `#[serde(untagged)]`, `#[serde(tag)]`, `#[serde(flatten)]` or
/// `#[serde(skip_serializing_if)]`. [`Json`](crate::Json) takes them all. A list or map has to say its length before its
/// elements. What a type does not serialise (`#[serde(skip)]`) stays with values that never leave their process, and is lost
/// with others. A value that is nested deeper than the stack of a thread has room for, which are some thousand levels, is
/// refused; hold it flat, as a list whose elements name each other by index.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross from one process to another",
    label = "not a type that tasks can take or return",
    note = "a task's arguments and results must be `Clone + Send + Sync + 'static` and derive `serde::Serialize` and `serde::Deserialize`; they must own their data (no references)"
)]
pub trait Data: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Data for T {}
