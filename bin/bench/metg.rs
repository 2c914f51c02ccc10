//! The minimum effective task granularity of Task Bench's `stencil_1d`: the shortest tasks with which half of the machine's
//! time is spent in tasks.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::tasks::{spin_cost, stencil};
use crate::{floors, systems};
use serde_json::json;
use swath::{Client, Delayed, delayed};

/// Seconds of work in one run, each of the workers; so that what is measured is not the start of it.
const WORK: f64 = 0.1;
/// The longest tasks that are tried, in microseconds.
const LONGEST: f64 = 50_000.0;

/// A grid of tasks: each needs those beside and at its place in the row before.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) width: usize,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn inputs(self, i: usize) -> std::ops::Range<usize> {
        i.saturating_sub(1)..(i + 2).min(self.width)
    }

    fn tasks(self) -> usize {
        self.width * self.steps
    }

    fn expected(self) -> Vec<u64> {
        let mut row = vec![1; self.width];
        for _ in 1..self.steps {
            row = (0..self.width).map(|i| stencil(0, row[self.inputs(i)].to_vec())).collect();
        }
        row
    }

    fn compute(self, client: &Client, rounds: u64) -> Outcome<Vec<u64>> {
        let stencil = delayed(stencil);
        let mut row: Vec<Delayed<u64>> =
            (0..self.width).map(|_| stencil.call(rounds, Vec::<Delayed<u64>>::new())).collect();
        for _ in 1..self.steps {
            row = (0..self.width).map(|i| stencil.call(rounds, &row[self.inputs(i)])).collect();
        }
        Ok(client.compute(row)?)
    }
}

/// Finds the least length with an efficiency of one half or more, from `start` on: by doubling or halving until that is
/// between two lengths, then by bisection. Nothing shorter than `shortest` is tried.
fn search(start: f64, shortest: f64, rounds: usize, mut efficiency: impl FnMut(f64) -> Outcome<f64>) -> Outcome<f64> {
    let (mut low, mut high) = (None, None);
    let mut at = start;
    while low.is_none() || high.is_none() {
        if efficiency(at)? >= 0.5 {
            high = Some(at);
            at /= 2.0;
            if at < shortest {
                low = high;
            }
        } else {
            low = Some(at);
            at *= 2.0;
            if at > LONGEST {
                return Err("efficiency stays below 50 %".into());
            }
        }
    }
    let (mut low, mut high) = (low.unwrap_or(at), high.unwrap_or(at));
    for _ in 0..rounds {
        let middle = (low * high).sqrt();
        match efficiency(middle)? >= 0.5 {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high)
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let width = options.width.unwrap_or(4);
    let work = options.quick_or(WORK / 100.0, WORK);
    let rounds = options.rounds.unwrap_or(4);
    report.for_each(|report, system| {
        let client = match system {
            "floor-threads" => None,
            _ => Some(systems::open(system, workers)?),
        };
        let cost = spin_cost();
        let steps_at = |micros: f64| {
            let enough = (work * workers as f64 * 1e6 / (width as f64 * micros)) as usize;
            options.steps.unwrap_or(enough.clamp(options.quick_or(10, 100), 100_000))
        };
        let mut seen = Vec::new();
        let mut efficiency = |micros: f64| {
            let grid = Grid { width, steps: steps_at(micros) };
            let right = grid.expected();
            let rounds = ((micros * 1000.0 / cost).round() as u64).max(1);
            let go = || match &client {
                Some(client) => grid.compute(client, rounds),
                None => Ok(floors::stencil(grid, workers, rounds)),
            };
            let took = seconds(2, go, |row| require(row == right, "another last row"))?;
            let ideal = grid.tasks() as f64 * micros / workers as f64 / 1e6;
            let reached = ideal / took.into_iter().fold(f64::MAX, f64::min);
            seen.push((micros, reached));
            Ok(reached)
        };
        if options.quick {
            // Whether half is ever reached depends on what else the machine does.
            let params = json!({"steps": steps_at(50.0), "width": width, "workers": workers, "us": 50});
            report.emit(system, &params, Metric::new("efficiency", "1"), efficiency(50.0)?);
            return Ok(());
        }
        let least = search(200.0, 16.0 * cost / 1000.0, rounds, efficiency)?;
        let params = json!({"steps": steps_at(least), "width": width, "workers": workers});
        report.emit(system, &params, Metric::new("metg50", "us"), least);
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let curve: Vec<String> = seen.iter().map(|(micros, e)| format!("{micros:.2} us: {e:.2}")).collect();
        eprintln!("bench: metg {system}: {}", curve.join(", "));
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_search_finds_where_half_is_reached() {
        // An overhead of 3 us for each task.
        let found = search(200.0, 0.01, 8, |g| Ok(g / (g + 3.0))).unwrap();
        assert!((3.0..3.1).contains(&found), "{found}");
        let found = search(1.0, 0.01, 8, |g| Ok(g / (g + 700.0))).unwrap();
        assert!((700.0..720.0).contains(&found), "{found}");
    }

    #[test]
    fn the_search_ends() {
        assert!(search(200.0, 0.01, 4, |_| Ok(0.1)).is_err());
        let found = search(200.0, 40.0, 4, |_| Ok(0.9)).unwrap();
        assert_eq!(found, 50.0);
    }

    #[test]
    fn the_stencil_has_edges() {
        let grid = Grid { width: 4, steps: 2 };
        assert_eq!((0..4).map(|i| grid.inputs(i)).collect::<Vec<_>>(), [0..2, 0..3, 1..4, 2..4]);
        assert_eq!(grid.expected(), [3, 4, 4, 3]);
        assert_eq!(grid.compute(&Client::sync(), 1).unwrap(), grid.expected());
        let long = Grid { width: 4, steps: 100 };
        assert_eq!(floors::stencil(long, 2, 1), long.expected());
    }
}
