//! Order without data: what is to run after something whose results it does not use.

use crate::client::{Computable, Handles, Lowering, Successor};
use crate::delayed::Delayed;
use crate::error::Result;
use crate::graph::copy::copy;
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::task::Value;
use crate::task::codec::CodecOf;
use crate::task::function::Record;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// At most so many tasks are waited for by one.
const AT_ONCE: usize = 8;

static PURE: LazyLock<Arc<Options>> = LazyLock::new(|| Arc::new(Options { pure: true, ..Options::default() }));

/// Stands for the function of a task that has inputs and does nothing.
struct Checkpoint;

impl Checkpoint {
    const RECORD: &'static Record = &Record::new::<Self>(|| "checkpoint", |_| Ok(Value::new(())), CodecOf::<()>::CODEC);

    /// A task that needs all these.
    fn of(tasks: &[Arc<Node>]) -> Arc<Node> {
        let args = tasks.iter().map(|task| Arg::Task(Arc::clone(task))).collect();
        Arc::new(Node::call(Self::RECORD, args, Some(Arc::clone(&PURE))))
    }

    /// A task that runs when all these have. Each is waited for where its result is, so that no value is moved.
    fn behind(tasks: &[Arc<Node>]) -> Arc<Node> {
        let mut level: Vec<Arc<Node>> = tasks.iter().map(|task| Self::of(std::slice::from_ref(task))).collect();
        while level.len() > 1 {
            level = level.chunks(AT_ONCE).map(Self::of).collect();
        }
        level.pop().unwrap_or_else(|| Self::of(&[]))
    }
}

/// A lazy nothing that is there when all of these have been computed: to [`bind`] others to, or to compute for its effects
/// without bringing any value here.
///
/// Each value is waited for where it is. Where one fails, so does this.
///
/// ```
/// use swath::collection::checkpoint;
/// use swath::{Bag, Client, delayed};
/// let (bag, number) = (Bag::range(0..100, 4).map(|x| x * x), delayed(|x: i64| x + 1).call(1));
/// checkpoint((&bag, &number))?.compute(&Client::threads(2))?;
/// # Ok::<(), swath::Error>(())
/// ```
///
/// # Errors
/// Where a collection among them cannot be computed.
pub fn checkpoint<C: Computable>(things: C) -> Result<Delayed<()>> {
    let (tasks, _) = Lowering::tasks_of(&things)?;
    Ok(Delayed::from_arc(Checkpoint::behind(&tasks)))
}

/// The same values as `children`, computed by tasks of which none runs before all `parents` have been computed: order between
/// tasks that share files or other state, and no data.
///
/// The children given are left as they are; those that come back are other tasks, as are all that they need, but for
/// results that a client holds already. So nothing can wait for itself, also where parents need the children: a graph
/// without circles stays one. Where a parent fails, so do the children.
///
/// `things` of all four functions here are what [`Client::compute`](crate::Client::compute) takes: lazy values, futures,
/// collections, lists and tuples of them.
///
/// ```
/// use swath::collection::bind;
/// use swath::{Client, delayed};
/// # let dir = tempfile::tempdir()?;
/// let file = dir.path().join("numbers").display().to_string();
/// let write = delayed(|file: String| std::fs::write(file, "1 2 3").is_ok()).call(&*file);
/// let read = delayed(|file: String| std::fs::read_to_string(file).unwrap_or_default()).call(&*file);
/// let read = bind(&read, &write)?;
/// assert_eq!(Client::threads(2).compute((&read, &write))?, ("1 2 3".to_string(), true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Where a collection among them cannot be computed.
pub fn bind<C: Computable, P: Computable>(children: C, parents: P) -> Result<C::Persisted> {
    let (parents, _) = Lowering::tasks_of(&parents)?;
    let behind = Checkpoint::behind(&parents);
    let (tasks, counts) = Lowering::tasks_of(&children)?;
    let copies = copy(&tasks, &Arg::Task(Arc::clone(&behind)));
    // What needs nothing that runs is there, and is passed on when it is time.
    let mut next = tasks.iter().zip(copies).map(|(task, copy)| match Arc::ptr_eq(task, &copy) {
        true => Successor::Behind(copy, Arc::clone(&behind)),
        false => Successor::Task(copy),
    });
    Ok(children.persisted(&mut Handles::of(&mut next, counts)))
}

/// The same values, of which none can be used before all have been computed.
///
/// In contrast to [`bind`] it are the same tasks, each with one more behind it, which passes the value on.
///
/// ```
/// use swath::collection::wait_on;
/// use swath::{Bag, Client};
/// let bag = Bag::range(0..100, 4).map(|x| x * x);
/// // No square is added before the last has been made.
/// let sum = wait_on(&bag)?.sum();
/// assert_eq!(sum.compute(&Client::threads(2))?, 328_350);
/// # Ok::<(), swath::Error>(())
/// ```
///
/// # Errors
/// Where a collection among them cannot be computed.
pub fn wait_on<C: Computable>(things: C) -> Result<C::Persisted> {
    let (tasks, counts) = Lowering::tasks_of(&things)?;
    let behind = Checkpoint::behind(&tasks);
    let mut next = tasks.into_iter().map(|task| Successor::Behind(task, Arc::clone(&behind)));
    Ok(things.persisted(&mut Handles::of(&mut next, counts)))
}

/// The same values, computed by tasks of their own: what is computed of both is not shared, also where it is
/// [pure](crate::DelayedFn::pure). Results that a client holds already are left as they are.
///
/// So a large value may be made twice where that is cheaper than keeping it in memory until its second use.
///
/// ```
/// use swath::collection::clone_graph;
/// use swath::{Bag, Client};
/// let bag = Bag::range(0..1000, 10);
/// let (sum, other) = (bag.sum(), clone_graph(&bag)?.map(|x| x + 1).sum());
/// assert_eq!(Client::threads(2).compute((&sum, &other))?, (499_500, 500_500));
/// # Ok::<(), swath::Error>(())
/// ```
///
/// # Errors
/// Where a collection among them cannot be computed.
pub fn clone_graph<C: Computable>(things: C) -> Result<C::Persisted> {
    static CLONES: AtomicU64 = AtomicU64::new(0);
    let (tasks, counts) = Lowering::tasks_of(&things)?;
    let number = Value::new(CLONES.fetch_add(1, Ordering::Relaxed));
    let copies = copy(&tasks, &Arg::Value(number, CodecOf::<u64>::CODEC));
    let mut next = copies.into_iter().map(Successor::Task);
    Ok(things.persisted(&mut Handles::of(&mut next, counts)))
}
