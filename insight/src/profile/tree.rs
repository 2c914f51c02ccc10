//! A bounded tree of stacks.

use super::MOST_NODES;
use serde::{Deserialize, Serialize};

/// No node.
const NONE: u32 = u32::MAX;

/// Time by stack, as a tree whose roots are the outermost functions.
///
/// It has at most [`MOST_NODES`] nodes: time of stacks that would need more is [`other`](Self::other).
///
/// ```
/// use swath_insight::profile::StackTree;
/// let mut tree = StackTree::default();
/// tree.add(["parse", "split"], 30);
/// tree.add(["parse", "number"], 10);
/// assert_eq!(tree.total(), 40);
/// let root = tree.roots().next().unwrap();
/// assert_eq!((*root.frame(), root.own(), root.total()), ("parse", 0, 40));
/// assert_eq!(root.children().count(), 2);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Listed<F>", try_from = "Listed<F>")]
#[serde(bound(serialize = "F: Clone + Serialize", deserialize = "F: Deserialize<'de>"))]
pub struct StackTree<F> {
    nodes: Vec<Node<F>>,
    first_root: u32,
    other: u64,
}

/// A node comes behind the node that it is a child of.
#[derive(Clone, Debug)]
struct Node<F> {
    frame: F,
    parent: u32,
    own: u64,
    first_child: u32,
    next_sibling: u32,
}

/// The tree as it is written: links are told by the number of the parent alone.
#[derive(Serialize, Deserialize)]
struct Listed<F> {
    /// Frame, number of the parent plus one, own time.
    nodes: Vec<(F, u32, u64)>,
    other: u64,
}

impl<F: Clone> From<StackTree<F>> for Listed<F> {
    fn from(tree: StackTree<F>) -> Self {
        let nodes = tree.nodes.into_iter().map(|node| (node.frame, node.parent.wrapping_add(1), node.own)).collect();
        Self { nodes, other: tree.other }
    }
}

impl<F> TryFrom<Listed<F>> for StackTree<F> {
    type Error = String;

    fn try_from(listed: Listed<F>) -> Result<Self, String> {
        if listed.nodes.len() > MOST_NODES {
            return Err(format!("a tree of {} nodes; {MOST_NODES} are the most", listed.nodes.len()));
        }
        let mut tree = Self { other: listed.other, ..Self::default() };
        for (number, (frame, parent, own)) in listed.nodes.into_iter().enumerate() {
            if parent as usize > number {
                return Err(format!("node {number} comes before its parent"));
            }
            tree.push(parent.wrapping_sub(1), frame, own);
        }
        Ok(tree)
    }
}

impl<F> Default for StackTree<F> {
    fn default() -> Self {
        Self { nodes: Vec::new(), first_root: NONE, other: 0 }
    }
}

/// The order of nodes and children does not matter.
impl<F: PartialEq> PartialEq for StackTree<F> {
    fn eq(&self, other: &Self) -> bool {
        fn same<F: PartialEq>(a: &StackTree<F>, mut at: u32, b: &StackTree<F>, above: u32) -> bool {
            // The depth of a tree may be that of its nodes, so there is no recursion.
            let mut open = Vec::new();
            let mut above = above;
            loop {
                while at != NONE {
                    let node = &a.nodes[at as usize];
                    let twin = b.child(above, &node.frame);
                    if twin == NONE || b.nodes[twin as usize].own != node.own {
                        return false;
                    }
                    open.push((node.next_sibling, above));
                    (at, above) = (node.first_child, twin);
                }
                match open.pop() {
                    Some(next) => (at, above) = next,
                    None => return true,
                }
            }
        }
        self.other == other.other && self.nodes.len() == other.nodes.len() && same(self, self.first_root, other, NONE)
    }
}

impl<F> StackTree<F> {
    fn push(&mut self, parent: u32, frame: F, own: u64) -> u32 {
        let number = self.nodes.len() as u32;
        let first = match parent {
            NONE => &mut self.first_root,
            parent => &mut self.nodes[parent as usize].first_child,
        };
        let next_sibling = std::mem::replace(first, number);
        self.nodes.push(Node { frame, parent, own, first_child: NONE, next_sibling });
        number
    }

    /// Whether there is no time in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.other == 0
    }

    /// How many nodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The time of all stacks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.nodes.iter().fold(self.other, |sum, node| sum.saturating_add(node.own))
    }

    /// The time of stacks for which there was no room.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }

    /// Time whose stack is not kept.
    pub fn add_other(&mut self, time: u64) {
        self.other = self.other.saturating_add(time);
    }

    /// The outermost functions.
    pub fn roots(&self) -> impl Iterator<Item = NodeRef<'_, F>> {
        self.siblings(self.first_root)
    }

    fn siblings(&self, first: u32) -> impl Iterator<Item = NodeRef<'_, F>> {
        let known = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(known(first), move |&at| known(self.nodes[at as usize].next_sibling))
            .map(|at| NodeRef { tree: self, at })
    }

    /// Each stack that has time of its own, outermost function first, with that time.
    pub fn stacks(&self) -> impl Iterator<Item = (Vec<&F>, u64)> {
        self.nodes.iter().filter(|node| node.own > 0).map(|node| {
            let above = |node: &&Node<F>| self.nodes.get(node.parent as usize);
            let mut stack: Vec<&F> = std::iter::successors(Some(node), above).map(|node| &node.frame).collect();
            stack.reverse();
            (stack, node.own)
        })
    }
}

impl<F: PartialEq> StackTree<F> {
    fn child(&self, parent: u32, frame: &F) -> u32 {
        let first = match parent {
            NONE => self.first_root,
            parent => self.nodes[parent as usize].first_child,
        };
        self.siblings(first).find(|node| node.frame() == frame).map_or(NONE, |node| node.at)
    }

    /// The child with that frame, which is made if there is room.
    fn make(&mut self, parent: u32, frame: F) -> Option<u32> {
        match self.child(parent, &frame) {
            NONE if self.nodes.len() >= MOST_NODES => None,
            NONE => Some(self.push(parent, frame, 0)),
            there => Some(there),
        }
    }

    /// Adds time of a stack, whose outermost function comes first.
    pub fn add(&mut self, stack: impl IntoIterator<Item = F>, time: u64) {
        let mut at = Some(NONE);
        for frame in stack {
            at = at.and_then(|at| self.make(at, frame));
        }
        match at.and_then(|at| self.nodes.get_mut(at as usize)) {
            Some(node) => node.own = node.own.saturating_add(time),
            None => self.add_other(time),
        }
    }

    /// Adds all time of another tree.
    pub fn merge(&mut self, other: &Self)
    where
        F: Clone,
    {
        self.add_other(other.other);
        let mut here: Vec<Option<u32>> = Vec::with_capacity(other.nodes.len());
        for node in &other.nodes {
            let parent = if node.parent == NONE { Some(NONE) } else { here[node.parent as usize] };
            let at = parent.and_then(|parent| self.make(parent, node.frame.clone()));
            match at {
                Some(at) => {
                    let own = &mut self.nodes[at as usize].own;
                    *own = own.saturating_add(node.own);
                }
                None => self.add_other(node.own),
            }
            here.push(at);
        }
    }
}

/// A function in a tree, called by those above it.
#[derive(Debug)]
pub struct NodeRef<'a, F> {
    tree: &'a StackTree<F>,
    at: u32,
}

impl<F> Clone for NodeRef<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for NodeRef<'_, F> {}

impl<'a, F> NodeRef<'a, F> {
    fn node(&self) -> &'a Node<F> {
        &self.tree.nodes[self.at as usize]
    }

    /// What it is.
    #[must_use]
    pub fn frame(&self) -> &'a F {
        &self.node().frame
    }

    /// Time in the function itself.
    #[must_use]
    pub fn own(&self) -> u64 {
        self.node().own
    }

    /// Time in the function and in what it calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        let mut total = 0_u64;
        let mut open = vec![*self];
        while let Some(node) = open.pop() {
            total = total.saturating_add(node.own());
            open.extend(node.children());
        }
        total
    }

    /// What it calls.
    pub fn children(&self) -> impl Iterator<Item = NodeRef<'a, F>> + use<'a, F> {
        self.tree.siblings(self.node().first_child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_as_other() {
        let mut tree = StackTree::default();
        for leaf in 0..2 * MOST_NODES {
            tree.add([0, leaf + 1], 1);
        }
        assert_eq!((tree.len(), tree.total()), (MOST_NODES, 2 * MOST_NODES as u64));
        assert_eq!(tree.other(), MOST_NODES as u64 + 1);
        let mut both = tree.clone();
        both.merge(&tree);
        assert_eq!((both.total(), both.other()), (2 * tree.total(), 2 * tree.other()));
        // A stack that is known still finds its place.
        tree.add([0, 1], 5);
        assert_eq!(tree.other(), MOST_NODES as u64 + 1);
    }

    #[test]
    fn merging_is_adding_each_stack() {
        let stacks: [(&[u8], u64); 5] = [(&[1], 1), (&[1, 2], 2), (&[1, 2, 1], 4), (&[3], 8), (&[1, 3], 16)];
        let (mut all, mut first, mut second) = (StackTree::default(), StackTree::default(), StackTree::default());
        for (number, (stack, time)) in stacks.into_iter().enumerate() {
            all.add(stack.iter().copied(), time);
            if number % 2 == 0 { &mut first } else { &mut second }.add(stack.iter().copied(), time);
        }
        second.merge(&first);
        assert_eq!(second, all);
        assert_ne!(first, all);
        let mut found: Vec<(Vec<u8>, u64)> =
            all.stacks().map(|(stack, time)| (stack.into_iter().copied().collect(), time)).collect();
        found.sort_by_key(|(_, time)| *time);
        assert_eq!(found, stacks.map(|(stack, time)| (stack.to_vec(), time)));
    }

    #[test]
    fn a_tree_is_read_as_it_was_written() {
        let mut tree = StackTree::default();
        tree.add([1, 2, 3], 7);
        tree.add([1, 4], 5);
        tree.add_other(2);
        let text = serde_json::to_string(&tree).expect("it is written");
        let back: StackTree<i32> = serde_json::from_str(&text).expect("it is read");
        assert_eq!(back, tree);
        let circle = r#"{"nodes": [[1, 2, 0], [2, 1, 0]], "other": 0}"#;
        assert!(serde_json::from_str::<StackTree<i32>>(circle).is_err());
    }

    #[test]
    fn a_deep_tree_needs_no_deep_stack() {
        let mut tree = StackTree::default();
        tree.add(0..MOST_NODES, 1);
        assert_eq!(tree.roots().next().map(|root| root.total()), Some(1));
        assert_eq!(tree, tree.clone());
    }
}
