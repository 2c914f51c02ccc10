//! The minimum effective task granularity of Task Bench's patterns: the shortest tasks with which half of the machine's time
//! is spent in tasks.

use crate::options::Options;
use crate::pattern::{Grid, Pattern};
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::tasks::{spin_cost, stencil};
use crate::{floors, systems};
use serde_json::{Value, json};
use swath::{Client, Delayed, delayed};

/// Seconds of work in one run, each of the workers; so that what is measured is not the start of it.
const WORK: f64 = 0.1;
/// The length of task that the search begins with, in microseconds.
const LONG: f64 = 200.0;
/// The longest tasks that are tried, in microseconds.
const LONGEST: f64 = 50_000.0;

/// Runs all tasks of a grid, also those that nothing in the next row needs: what nobody wants would not run at all.
fn compute(grid: Grid, client: &Client, rounds: u64) -> Outcome<Vec<u64>> {
    let task = delayed(stencil);
    let mut row: Vec<Delayed<u64>> = Vec::new();
    let mut ends: Vec<Delayed<u64>> = Vec::new();
    for step in 0..grid.steps {
        let mut needed = vec![false; row.len()];
        let mut inputs = |i| {
            let inputs = grid.inputs(step, i);
            inputs.iter().for_each(|&j| needed[j] = true);
            inputs.into_iter().map(|j| row[j].clone()).collect::<Vec<_>>()
        };
        let next = (0..grid.width_at(step)).map(|i| task.call(rounds, inputs(i))).collect();
        let before = std::mem::replace(&mut row, next);
        ends.extend(before.into_iter().zip(needed).filter(|(_, needed)| !needed).map(|(end, _)| end));
    }
    Ok(client.compute((row, ends))?.0)
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

/// One system and one pattern: how much of the machine tasks of a length use.
struct Bench<'a> {
    client: Option<&'a Client>,
    pattern: Pattern,
    options: &'a Options,
    /// Nanoseconds of one round of work.
    cost: f64,
}

impl Bench<'_> {
    fn grid(&self, micros: f64) -> Grid {
        let options = self.options;
        let width = options.width.unwrap_or(4);
        let work = options.quick_or(WORK / 100.0, WORK) * options.width() as f64 * 1e6;
        let enough = (work / (width as f64 * micros)) as usize;
        let steps = options.steps.unwrap_or(enough.clamp(options.quick_or(10, 100), 100_000));
        Grid { pattern: self.pattern, width, steps }
    }

    fn efficiency(&self, micros: f64) -> Outcome<f64> {
        let (grid, workers) = (self.grid(micros), self.options.width());
        let right = grid.expected();
        let rounds = ((micros * 1000.0 / self.cost).round() as u64).max(1);
        let go = || match self.client {
            Some(client) => compute(grid, client, rounds),
            None => Ok(floors::grid(grid, workers, rounds)),
        };
        let took = seconds(2, go, |row| require(row == right, "another last row"))?;
        let ideal = grid.tasks() as f64 * micros / workers as f64 / 1e6;
        Ok(ideal / took.into_iter().fold(f64::MAX, f64::min))
    }

    fn params(&self, micros: f64) -> serde_json::Map<String, Value> {
        let grid = self.grid(micros);
        let params = json!({
            "pattern": self.pattern.name(), "width": grid.width, "steps": grid.steps, "workers": self.options.width(),
        });
        params.as_object().cloned().unwrap_or_default()
    }

    /// Tells the efficiency of tasks of a length.
    fn tell(&self, report: &Report, system: &str, micros: f64, efficiency: f64) {
        let mut params = self.params(micros);
        params.insert("us".to_string(), json!((micros * 1000.0).round() / 1000.0));
        report.emit(system, &params.into(), Metric::new("efficiency", "1"), efficiency);
    }

    /// The curve of efficiency over the length of tasks, and where it crosses one half.
    fn measure(&self, report: &Report, system: &str) -> Outcome {
        if self.options.quick {
            // Whether half is ever reached depends on what else the machine does.
            self.tell(report, system, 50.0, self.efficiency(50.0)?);
            return Ok(());
        }
        let mut seen = Vec::new();
        let efficiency = |micros| {
            let reached = self.efficiency(micros)?;
            seen.push((micros, reached));
            Ok(reached)
        };
        let least = search(LONG, 16.0 * self.cost / 1000.0, self.options.rounds.unwrap_or(4), efficiency);
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        seen.iter().for_each(|&(micros, reached)| self.tell(report, system, micros, reached));
        let least = least?;
        report.emit(system, &self.params(least).into(), Metric::new("metg50", "us"), least);
        Ok(())
    }
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let wanted = |p: &Pattern| options.pattern.as_ref().is_none_or(|only| only.iter().any(|name| name == p.name()));
    report.for_each(|report, system| {
        let client = match system {
            "floor-threads" => None,
            _ => Some(systems::open(system, options.width())?),
        };
        for pattern in Pattern::ALL.into_iter().filter(wanted) {
            let bench = Bench { client: client.as_ref(), pattern, options, cost: spin_cost() };
            bench.measure(report, system)?;
        }
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
    fn every_pattern_is_computed_right() {
        for pattern in Pattern::ALL {
            let grid = Grid { pattern, width: 4, steps: 100 };
            let right = grid.expected();
            assert_eq!(right.len(), 4);
            assert_eq!(compute(grid, &Client::sync(), 1).unwrap(), right, "{pattern:?}");
            assert_eq!(floors::grid(grid, 2, 1), right, "{pattern:?}");
        }
    }
}
