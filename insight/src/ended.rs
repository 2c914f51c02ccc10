//! Counts of graphs that have gone.

use crate::Totals;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Graphs whose groups are kept graph by graph. Those of earlier ones are added up by name.
pub const ENDED_GRAPHS: usize = 1000;

/// Names that are counted each by itself where groups are added up. What has another name is counted as
/// [`OTHER_NAMES`].
pub const NAMES: usize = 1000;

/// The name under which tasks of all further names are counted together.
pub const OTHER_NAMES: &str = "other names";

/// The groups of graphs that have gone: those of the last [`ENDED_GRAPHS`] graph by graph, those of earlier ones added up by
/// name. So it takes a bounded amount of memory, and loses no task.
#[derive(Clone, Debug)]
pub struct EndedGroups<N> {
    graphs: VecDeque<(u32, Vec<(N, Totals)>)>,
    names: HashMap<N, Totals>,
    others: Totals,
}

impl<N> Default for EndedGroups<N> {
    fn default() -> Self {
        Self { graphs: VecDeque::new(), names: HashMap::new(), others: Totals::default() }
    }
}

impl<N: Eq + Hash> EndedGroups<N> {
    /// A graph has gone. Results that it had are released.
    pub fn push(&mut self, graph: u32, mut groups: Vec<(N, Totals)>) {
        groups.iter_mut().for_each(|(_, totals)| *totals = totals.when_gone());
        self.graphs.push_back((graph, groups));
        if self.graphs.len() > ENDED_GRAPHS
            && let Some((_, groups)) = self.graphs.pop_front()
        {
            groups.into_iter().for_each(|(name, totals)| self.add(name, totals));
        }
    }

    fn add(&mut self, name: N, totals: Totals) {
        if let Some(sum) = self.names.get_mut(&name) {
            *sum += totals;
        } else if self.names.len() < NAMES {
            self.names.insert(name, totals);
        } else {
            self.others += totals;
        }
    }

    /// The groups with their names and the numbers of their graphs, those without a number first. Without a name: all
    /// further names together.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&N>, Option<u32>, Totals)> {
        let others = (self.others != Totals::default()).then_some((None, None, self.others));
        let names = self.names.iter().map(|(name, totals)| (Some(name), None, *totals));
        let groups = self
            .graphs
            .iter()
            .flat_map(|(graph, groups)| groups.iter().map(|(name, totals)| (Some(name), Some(*graph), *totals)));
        others.into_iter().chain(names).chain(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    #[test]
    fn no_task_is_lost_when_graphs_are_added_up() {
        let mut ended = EndedGroups::default();
        let graphs = ENDED_GRAPHS as u32 + 2 * NAMES as u32;
        for graph in 0..graphs {
            let counts = Totals::from(Counts { memory: 1, waiting: 2, ..Counts::default() });
            ended.push(graph, vec![(graph.to_string(), counts), ("all".to_string(), counts)]);
        }
        let total: Counts = ended.iter().map(|(_, _, totals)| totals.counts).sum();
        let (all, n) = (u64::from(graphs) * 2, u64::from(graphs) * 4);
        assert_eq!(total, Counts { released: all, unneeded: n, ..Counts::default() });
        let by_graph = ended.iter().filter(|(_, graph, _)| graph.is_some()).count();
        assert_eq!(by_graph, 2 * ENDED_GRAPHS);
        let by_name = ended.iter().filter(|(name, graph, _)| name.is_some() && graph.is_none());
        assert_eq!(by_name.count(), NAMES);
        let together: Vec<_> = ended.iter().filter(|(name, _, _)| name.is_none()).collect();
        assert_eq!(together[0].2.counts.total(), 3 * (NAMES as u64 + 1), "{together:?}");
    }
}
