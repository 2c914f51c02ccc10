//! Task Bench's grids of tasks (Slaughter et al., SC20): rows of tasks that need tasks of the row before. The patterns are
//! those of its own program, by the same names.

use crate::tasks::stencil;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// Those beside it and its own column; the edges have two.
    Stencil,
    /// Starts with one task, each of which has two that need it, until the grid is as wide as it gets.
    Tree,
    /// A butterfly: its own column and those a distance away that doubles from row to row.
    Fft,
    /// Its own column, and each of the two on either side with a chance of one in four.
    Random,
}

impl Pattern {
    pub(crate) const ALL: [Self; 4] = [Self::Stencil, Self::Tree, Self::Fft, Self::Random];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stencil => "stencil_1d",
            Self::Tree => "tree",
            Self::Fft => "fft",
            Self::Random => "random_nearest",
        }
    }
}

/// After so many rows a random pattern begins again.
const PERIOD: usize = 3;
/// How far to either side the inputs of a random pattern are.
const REACH: usize = 2;

#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) pattern: Pattern,
    pub(crate) width: usize,
    pub(crate) steps: usize,
}

impl Grid {
    /// How many tasks a row has.
    pub(crate) fn width_at(self, step: usize) -> usize {
        match self.pattern {
            Pattern::Tree => 1_usize.checked_shl(step as u32).map_or(self.width, |wide| wide.min(self.width)),
            _ => self.width,
        }
    }

    /// Columns of the row before that a task needs.
    pub(crate) fn inputs(self, step: usize, i: usize) -> Vec<usize> {
        if step == 0 {
            return Vec::new();
        }
        let near = |reach: usize| i.saturating_sub(reach)..(i + reach + 1).min(self.width);
        match self.pattern {
            Pattern::Stencil => near(1).collect(),
            Pattern::Tree => vec![i / 2],
            Pattern::Fft => {
                let stages = self.width.next_power_of_two().trailing_zeros().max(1);
                let distance = 1 << ((step - 1) % stages as usize);
                let below = i.checked_sub(distance);
                below.into_iter().chain([i]).chain(Some(i + distance).filter(|&j| j < self.width)).collect()
            }
            Pattern::Random => {
                near(REACH).filter(|&j| j == i || mixed(step % PERIOD, i, j).is_multiple_of(4)).collect()
            }
        }
    }

    pub(crate) fn tasks(self) -> usize {
        (0..self.steps).map(|step| self.width_at(step)).sum()
    }

    /// The values of the last row, computed one after the other.
    pub(crate) fn expected(self) -> Vec<u64> {
        let mut row = Vec::new();
        for step in 0..self.steps {
            let value = |i| stencil(0, self.inputs(step, i).into_iter().map(|j| row[j]).collect());
            row = (0..self.width_at(step)).map(value).collect();
        }
        row
    }
}

/// A number that looks random, the same in every run.
fn mixed(set: usize, i: usize, j: usize) -> u64 {
    let mut x = ((set as u64) << 40 | (i as u64) << 20 | j as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        x = (x ^ (x >> 30)).wrapping_mul(multiplier);
    }
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pattern: Pattern, step: usize) -> Vec<Vec<usize>> {
        let grid = Grid { pattern, width: 4, steps: 10 };
        (0..grid.width_at(step)).map(|i| grid.inputs(step, i)).collect()
    }

    #[test]
    fn patterns_are_those_of_task_bench() {
        for pattern in Pattern::ALL {
            assert!(rows(pattern, 0).iter().all(Vec::is_empty));
        }
        assert_eq!(rows(Pattern::Stencil, 1), [vec![0, 1], vec![0, 1, 2], vec![1, 2, 3], vec![2, 3]]);
        assert_eq!(rows(Pattern::Tree, 1), [[0], [0]]);
        assert_eq!(rows(Pattern::Tree, 2), [[0], [0], [1], [1]]);
        assert_eq!(rows(Pattern::Tree, 3), [[0], [0], [1], [1]]);
        assert_eq!(rows(Pattern::Fft, 1), [vec![0, 1], vec![0, 1, 2], vec![1, 2, 3], vec![2, 3]]);
        assert_eq!(rows(Pattern::Fft, 2), [vec![0, 2], vec![1, 3], vec![0, 2], vec![1, 3]]);
        assert_eq!(rows(Pattern::Fft, 3), rows(Pattern::Fft, 1));
    }

    #[test]
    fn a_random_pattern_needs_itself_and_some_that_are_near() {
        let grid = Grid { pattern: Pattern::Random, width: 1000, steps: 4 };
        let inputs: Vec<Vec<usize>> = (0..1000).map(|i| grid.inputs(1, i)).collect();
        assert!(inputs.iter().enumerate().all(|(i, js)| js.contains(&i) && js.iter().all(|j| j.abs_diff(i) <= 2)));
        let all: usize = inputs.iter().map(Vec::len).sum();
        assert!((1850..2150).contains(&all), "one, and four of which every fourth: {all}");
        assert_eq!((0..1000).map(|i| grid.inputs(4, i)).collect::<Vec<_>>(), inputs);
    }

    #[test]
    fn a_tree_is_narrow_at_first() {
        let grid = Grid { pattern: Pattern::Tree, width: 4, steps: 4 };
        assert_eq!(grid.tasks(), 1 + 2 + 4 + 4);
        assert_eq!(grid.expected(), [4; 4]);
        assert_eq!(Grid { pattern: Pattern::Stencil, width: 4, steps: 2 }.expected(), [3, 4, 4, 3]);
    }
}
