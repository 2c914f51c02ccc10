//! Values that are nested deeply.

use crate::common::LONG;
use serde::{Deserialize, Serialize};
use swath::status::Mode;
use swath::{Client, delayed};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Node>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

impl Node {
    fn chain(n: u64) -> Self {
        (0..n).fold(Node { next: None }, |next, _| Node { next: Some(Box::new(next)) })
    }

    fn depth(&self) -> u64 {
        let (mut n, mut node) = (0, self);
        while let Some(next) = &node.next {
            (n, node) = (n + 1, next);
        }
        n
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf(u64),
    Fork(Vec<Tree>),
}

pub fn a_thousand_levels_work(client: &Client) {
    let chain = client.compute_timeout(&delayed(Node::chain).call(1000_u64), LONG).unwrap();
    assert_eq!(chain.depth(), 1000);
    assert_eq!(client.compute_timeout(&delayed(|n: Node| n.depth()).call(chain), LONG).unwrap(), 1000);
    let tree = (0..200).fold(Tree::Leaf(1), |tree, n| Tree::Fork(vec![Tree::Leaf(n), tree]));
    assert_eq!(client.compute_timeout(&delayed(|t: Tree| t).call(tree.clone()), LONG).unwrap(), tree);
}

pub fn what_would_overflow_a_stack_is_an_error(client: &Client) {
    if client.mode() != Mode::Processes {
        // Nothing is encoded.
        return;
    }
    for levels in [10_000_u64, 40_000, 200_000] {
        let result = client.compute_timeout(&delayed(Node::chain).call(levels), LONG);
        match result {
            Ok(chain) => assert_eq!(chain.depth(), levels),
            Err(e) => assert!(e.to_string().contains("nested deeper") && e.to_string().contains("hold it flat"), "{e}"),
        }
        let chain = Node::chain(levels);
        match client.compute_timeout(&delayed(|n: Node| n.depth()).call(chain), LONG) {
            Ok(depth) => assert_eq!(depth, levels),
            Err(e) => assert!(e.to_string().contains("nested deeper") && e.to_string().contains("hold it flat"), "{e}"),
        }
    }
    let deepest = client.compute_timeout(&delayed(Node::chain).call(1_000_000_u64), LONG).unwrap_err();
    assert!(deepest.to_string().contains("at level "), "{deepest}");
    assert_eq!(client.compute_timeout(&delayed(|x: u64| x + 1).call(1_u64), LONG).unwrap(), 2);
    assert!(client.deaths().unwrap().is_empty());
}
