//! The profile: where tasks spent their time, by function.

use super::VERSION;
use super::gathered::LONGEST_NAME;
use crate::log::nanos;
use crate::picture::text::cut;
use crate::profile::{FrameOrigin, Frames, Profile, StackTree};
use serde::Serialize;
use std::collections::BTreeMap;

/// So many names have trees of their own, and all together so many nodes.
const MOST_NAMES: usize = 50;
const MOST_NODES: usize = 20_000;

/// Where tasks spent their time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProfileAnswer {
    /// The version of the answers.
    pub version: u32,
    /// Whether threads were sampled at all.
    pub is_on: bool,
    /// The names, those that took the most time first.
    pub names: Vec<ProfileName>,
    /// How many names have no tree here.
    pub hidden: usize,
    /// How many samples there was no room for.
    pub lost: u64,
    /// Which workers were not sampled, and why.
    pub off: BTreeMap<String, String>,
}

/// What the tasks of a name did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProfileName {
    /// The name.
    pub name: String,
    /// How many stacks were sampled.
    pub samples: u64,
    /// How long they were on a CPU.
    pub on_ns: u64,
    /// How long they were not.
    pub off_ns: u64,
    /// The functions on a CPU; each node comes behind the one that it is called by.
    pub nodes: Vec<ProfileNode>,
    /// Time of stacks that have no nodes.
    pub other_ns: u64,
    /// What they waited in, the longest first.
    pub waits: Vec<Wait>,
}

/// A function, as it was called by those above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProfileNode {
    /// Its path.
    pub function: String,
    /// Whose it is.
    pub origin: FrameOrigin,
    /// The place of the node that called it; none for the outermost.
    pub parent: Option<u32>,
    /// Time in the function and in what it called.
    pub total_ns: u64,
    /// Time in the function itself.
    pub own_ns: u64,
}

/// What was waited in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Wait {
    /// A system call, or what else it was.
    pub call: String,
    /// For how long.
    pub ns: u64,
}

pub(super) fn answer(profile: Option<&Profile>) -> ProfileAnswer {
    let mut answer = ProfileAnswer {
        version: VERSION,
        is_on: profile.is_some(),
        names: Vec::new(),
        hidden: 0,
        lost: profile.map_or(0, Profile::lost),
        off: BTreeMap::new(),
    };
    let Some(profile) = profile else { return answer };
    answer.off = profile.off().iter().map(|(worker, why)| (cut(worker, LONGEST_NAME), why.to_string())).collect();
    let names = profile.names();
    answer.hidden = names.len().saturating_sub(MOST_NAMES);
    let mut left = MOST_NODES;
    for name in names.iter().take(MOST_NAMES) {
        let Some(of_name) = profile.of(&name.name).map(|of_name| of_name.with(Frames::Own)) else { continue };
        let (nodes, other_ns) = nodes(&of_name.on, &mut left);
        let mut waits: Vec<Wait> =
            of_name.off.iter().map(|(call, ns)| Wait { call: cut(call, LONGEST_NAME), ns: *ns }).collect();
        waits.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.call.cmp(&b.call)));
        waits.truncate(50);
        answer.names.push(ProfileName {
            name: cut(&name.name, LONGEST_NAME),
            samples: of_name.samples,
            on_ns: nanos::of(of_name.on_cpu()),
            off_ns: nanos::of(of_name.off_cpu()),
            nodes,
            other_ns,
            waits,
        });
    }
    answer
}

/// The nodes of a tree, the widest first among those that are called by the same, and the time of what did not fit.
fn nodes(tree: &StackTree<crate::profile::Frame>, left: &mut usize) -> (Vec<ProfileNode>, u64) {
    let mut nodes: Vec<ProfileNode> = Vec::new();
    let mut places: BTreeMap<(Option<u32>, crate::profile::Frame), u32> = BTreeMap::new();
    let mut other = tree.other();
    let mut stacks: Vec<_> = tree.stacks().collect();
    stacks.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (stack, time) in stacks {
        let known =
            stack.iter().try_fold(None, |above, frame| places.get(&(above, (*frame).clone())).copied().map(Some));
        if known.is_none() && stack.len() > *left {
            other = other.saturating_add(time);
            continue;
        }
        let mut above = None;
        for frame in stack {
            let place = *places.entry((above, frame.clone())).or_insert_with(|| {
                *left = left.saturating_sub(1);
                let function = cut(&frame.function, LONGEST_NAME);
                nodes.push(ProfileNode { function, origin: frame.origin, parent: above, total_ns: 0, own_ns: 0 });
                u32::try_from(nodes.len() - 1).unwrap_or(u32::MAX)
            });
            let node = &mut nodes[place as usize];
            node.total_ns = node.total_ns.saturating_add(time);
            above = Some(place);
        }
        if let Some(node) = above.and_then(|place| nodes.get_mut(place as usize)) {
            node.own_ns = node.own_ns.saturating_add(time);
        }
    }
    (nodes, other)
}
