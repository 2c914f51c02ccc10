//! The lazy graph as it is built: immutable nodes that share what they have in common.

use super::held::Held;
use super::options::Options;
use crate::ids::SessionId;
use crate::task::Value;
use crate::task::call::guarded_serde;
use crate::task::codec::Codec;
pub(crate) use crate::task::function::key;
use crate::task::function::{Record, short_name};
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::Xxh3;

/// One task to be, or the result of one that was submitted.
#[derive(Debug)]
pub struct Node {
    pub(crate) kind: Kind,
    /// See [`hash`](Self::hash). A number of that width would have the node lie at multiples of 16 bytes.
    pub(super) hash: [u64; 2],
    /// Whether it and all that it needs are pure: what it gives once, it gives each time.
    pub(crate) reproducible: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Call {
        function: &'static Record,
        args: SmallVec<[Arg; 2]>,
        options: Option<Arc<Options>>,
    },
    /// One of the results of a call that has several.
    Part(Part),
    Held(Held),
}

/// One of the results of a call that has several.
#[derive(Debug)]
pub(crate) struct Part {
    /// The call. Always there, but for a node that is being dropped.
    maker: Option<Arc<Node>>,
    pub(crate) place: u32,
}

impl Part {
    pub(crate) fn maker(&self) -> &Arc<Node> {
        self.maker.as_ref().expect("it is taken only from a node that is being dropped")
    }

    /// What the maker takes apart: its first input.
    pub(super) fn whole(&self) -> &Node {
        let mut whole = None;
        self.maker().each_input(&mut |input| whole = whole.or(Some(input)));
        whole.unwrap_or_else(|| self.maker())
    }

    /// What it is encoded with.
    pub(crate) fn codec(&self) -> Option<&'static Codec> {
        match &self.maker().kind {
            Kind::Call { function, .. } => Some(function.part(self.place)),
            Kind::Part(_) | Kind::Held(_) => None,
        }
    }
}

/// One argument of a call.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A value given when the graph was built.
    #[doc(hidden)]
    Value(Value, &'static Codec),
    /// The result of another task.
    #[doc(hidden)]
    Task(Arc<Node>),
    /// The result of another task, read element by element: the other task may become a part of this one.
    #[doc(hidden)]
    Elements(Arc<Node>),
    /// A part of the task: the function that puts a list, tuple or map together, or a stage of a collection.
    #[doc(hidden)]
    Inline(&'static Record, Vec<Arg>),
}

impl Node {
    pub(crate) fn call(function: &'static Record, args: SmallVec<[Arg; 2]>, options: Option<Arc<Options>>) -> Self {
        let pure = options.as_ref().is_some_and(|o| o.pure);
        let hash = if pure { content_hash(function, &args) } else { None };
        let hash = hash.unwrap_or_else(|| serial_hash(function));
        let mut reproducible = pure;
        if pure {
            args.iter().for_each(|arg| arg.each_task(&mut |input| reproducible &= input.reproducible));
        }
        Self { kind: Kind::Call { function, args, options }, hash: halves(hash), reproducible }
    }

    /// A part of the result of a call that has several.
    pub(crate) fn part(maker: &Arc<Self>, place: u32) -> Self {
        // Equal for equal parts, and as different as other hashes are.
        let hash = maker.hash.map(|half| mix(half ^ mix(u64::from(place) + 1)));
        let part = Part { maker: Some(Arc::clone(maker)), place };
        Self { kind: Kind::Part(part), hash, reproducible: maker.reproducible }
    }

    pub(crate) fn held(held: Held) -> Self {
        let label = held.label();
        Self { kind: Kind::Held(held), hash: halves(label.hash()), reproducible: label.reproducible }
    }

    /// The same task with other options.
    pub(crate) fn with_options(&self, set: impl FnOnce(&mut Options)) -> Option<Self> {
        let Kind::Call { function, args, options } = &self.kind else { return None };
        let mut options = options.as_deref().cloned().unwrap_or_default();
        set(&mut options);
        let kind = Kind::Call { function, args: args.clone(), options: Some(Arc::new(options)) };
        Some(Self { kind, hash: self.hash, reproducible: self.reproducible })
    }

    pub(crate) fn options(&self) -> Option<&Options> {
        match &self.kind {
            Kind::Call { options, .. } => options.as_deref(),
            Kind::Part(_) | Kind::Held(_) => None,
        }
    }

    /// Whether it reads another task's result element by element.
    pub(super) fn takes_streams(&self) -> bool {
        matches!(&self.kind, Kind::Call { args, .. } if args.iter().any(|a| matches!(a, Arg::Elements(_))))
    }

    /// The function that gives the elements of the result one after the other.
    pub(super) fn stream(&self) -> Option<&'static Record> {
        match &self.kind {
            Kind::Call { function, .. } => function.stream(),
            Kind::Part(_) | Kind::Held(_) => None,
        }
    }

    /// Whether equal calls are one task.
    pub(crate) fn is_pure(&self) -> bool {
        match &self.kind {
            Kind::Call { options, .. } => options.as_deref().is_some_and(|o| o.pure),
            Kind::Part(part) => part.maker().is_pure(),
            Kind::Held(_) => false,
        }
    }

    /// Whether its result is taken apart.
    pub(crate) fn has_parts(&self) -> bool {
        matches!(&self.kind, Kind::Call { function, .. } if function.has_parts())
    }

    /// Equal for equal options.
    pub(super) fn options_hash(&self) -> u64 {
        match &self.kind {
            // Taking a result apart has no options but those of the call that makes it.
            Kind::Part(part) => part.whole().options_hash(),
            Kind::Call { function, args, .. } if function.has_parts() => match args.first() {
                Some(Arg::Task(whole)) => whole.options_hash(),
                _ => 0,
            },
            _ => self.options().map_or(0, |options| rustc_hash::FxBuildHasher.hash_one(options)),
        }
    }

    /// Whether there may be other nodes for the same task.
    pub(super) fn is_one_of_many(&self) -> bool {
        match &self.kind {
            Kind::Call { options, .. } => options.as_deref().is_some_and(|o| o.pure),
            Kind::Part(_) | Kind::Held(_) => true,
        }
    }

    /// The task's name: the one it was given, or its function's.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Call { function, options, .. } => match options.as_deref().and_then(|o| o.name.as_deref()) {
                Some(name) => name.to_string(),
                None => short_name(function.path()),
            },
            Kind::Part(part) => part_name(&part.whole().name(), part.place),
            Kind::Held(held) => held.label().name(),
        }
    }

    /// What users see of a task: its name and its hash.
    pub(crate) fn key(&self) -> String {
        match &self.kind {
            Kind::Call { .. } | Kind::Part(_) => key(&self.name(), self.key_hash()),
            Kind::Held(held) => held.label().key(),
        }
    }

    pub(crate) fn key_hash(&self) -> u64 {
        self.hash[0]
    }

    /// Equal hashes mean the same task. The upper half shows in the key.
    pub(crate) fn hash(&self) -> u128 {
        u128::from(self.hash[0]) << 64 | u128::from(self.hash[1])
    }

    /// Calls `f` for each use of another task, in the order of the arguments.
    pub(crate) fn each_input<'a>(&'a self, f: &mut impl FnMut(&'a Arc<Node>)) {
        match &self.kind {
            Kind::Call { args, .. } => args.iter().for_each(|a| a.each_task(f)),
            Kind::Part(part) => f(part.maker()),
            Kind::Held(_) => {}
        }
    }

    /// Whether it uses other tasks.
    pub(super) fn has_inputs(&self) -> bool {
        let mut any = false;
        self.each_input(&mut |_| any = true);
        any
    }

    fn take_inputs(&mut self, into: &mut Vec<Arc<Node>>) {
        fn take(arg: Arg, into: &mut Vec<Arc<Node>>) {
            match arg {
                Arg::Value(..) => {}
                Arg::Task(node) | Arg::Elements(node) => into.push(node),
                Arg::Inline(_, args) => args.into_iter().for_each(|a| take(a, into)),
            }
        }
        match &mut self.kind {
            Kind::Call { args, .. } => {
                while let Some(arg) = args.pop() {
                    take(arg, into);
                }
            }
            Kind::Part(part) => into.extend(part.maker.take()),
            Kind::Held(_) => {}
        }
    }
}

/// The upper and the lower half of a hash.
pub(super) fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

impl Drop for Node {
    /// A chain may be a million nodes long, so a node's drop must not run inside its successor's.
    fn drop(&mut self) {
        let mut left = Vec::new();
        self.take_inputs(&mut left);
        while let Some(node) = left.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                node.take_inputs(&mut left);
            }
        }
    }
}

impl Arg {
    /// Calls `f` for each use of another task.
    pub(crate) fn each_task<'a>(&'a self, f: &mut impl FnMut(&'a Arc<Node>)) {
        match self {
            Arg::Value(..) => {}
            Arg::Task(node) | Arg::Elements(node) => f(node),
            Arg::Inline(_, args) => args.iter().for_each(|a| a.each_task(f)),
        }
    }

    /// Whether it is the result of another task as a whole.
    pub(crate) fn is_task(&self) -> bool {
        matches!(self, Arg::Task(_) | Arg::Elements(_))
    }

    fn feed(&self, hasher: &mut Xxh3) -> Option<()> {
        match self {
            Arg::Value(value, codec) => {
                let mut bytes = Vec::new();
                codec.encode(value, &mut bytes, usize::MAX).ok()?;
                hasher.update(codec.name().as_bytes());
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(&bytes);
            }
            Arg::Task(node) | Arg::Elements(node) => {
                hasher.update(b"task");
                hasher.update(&node.hash().to_le_bytes());
            }
            Arg::Inline(record, args) => {
                hasher.update(b"gather");
                feed_function(record, hasher);
                hasher.update(&(args.len() as u64).to_le_bytes());
                for arg in args {
                    arg.feed(hasher)?;
                }
            }
        }
        Some(())
    }
}

/// What a part of the result of that name is called.
pub(super) fn part_name(whole: &str, place: u32) -> String {
    format!("{whole}[{place}]")
}

fn feed_function(function: &'static Record, hasher: &mut Xxh3) {
    hasher.update(function.path().as_bytes());
    // Closures of one function share a path, but not a type.
    std::hash::Hash::hash(&function.identity(), hasher);
}

/// Equal for equal functions with equal arguments. `None` where an argument cannot be encoded.
fn content_hash(function: &'static Record, args: &[Arg]) -> Option<u128> {
    let mut hasher = Xxh3::new();
    feed_function(function, &mut hasher);
    // A value that panics is one that cannot be encoded; who sends it is told.
    guarded_serde("Serialize", || args.iter().try_for_each(|arg| arg.feed(&mut hasher))).ok()??;
    Some(hasher.digest128())
}

/// Different for every call: a program that builds its graphs in one thread gets the same keys each time it runs.
pub(crate) fn serial_hash(function: &'static Record) -> u128 {
    keyed_hash(function, serials(1))
}

/// Takes the next `n` serial numbers; gives the first of them.
pub(super) fn serials(n: u64) -> u64 {
    SERIAL.fetch_add(n, Ordering::Relaxed)
}

static SERIAL: AtomicU64 = AtomicU64::new(1);

/// In a worker process: the keys of what its tasks submit are not those of the program, nor of another worker.
pub(crate) fn number_for(tasks: SessionId) {
    SERIAL.store(u64::from(tasks.0) << 32, Ordering::Relaxed);
}

/// The hash of the call with that serial number.
pub(super) fn keyed_hash(function: &'static Record, serial: u64) -> u128 {
    // The path's place stands for the path: hashing the text would cost more than the rest of building a node.
    let path = function.path();
    let seed = (path.len() as u64) ^ serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u128::from(mix(seed)) << 64 | u128::from(serial)
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014): a bijection that spreads every bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
