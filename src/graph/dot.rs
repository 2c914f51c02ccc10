//! Pictures of graphs.

use super::dag::Dag;
use super::node::Node;
use std::fmt::Write;
use std::sync::Arc;

/// The graph that computes `roots` in Graphviz's language. Data flows upwards, as in Dask's pictures.
pub(crate) fn dot(roots: &[&Arc<Node>]) -> String {
    let graph = Dag::of(roots);
    let mut out = String::from("digraph {\n  rankdir=BT;\n  node [fontname=\"sans-serif\"];\n");
    for (id, node) in graph.nodes.iter().enumerate() {
        let id = id as u32;
        let shape = if graph.is_held(id) { "box" } else { "ellipse" };
        let mark = if graph.roots.contains(&id) { ", peripheries=2" } else { "" };
        let label = node.name().replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(out, "  t{id} [label=\"{label}\", tooltip=\"{}\", shape={shape}{mark}];", node.key());
        for input in graph.refs(id) {
            let _ = writeln!(out, "  t{input} -> t{id};");
        }
    }
    out.push_str("}\n");
    out
}
