//! Timing, and telling what came out.

use serde::Serialize;
use serde_json::Value;
use std::error::Error;
use std::io::{self, Write};
use std::process;
use std::time::Instant;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Serialize)]
struct Line<'a> {
    bench: &'a str,
    system: &'a str,
    params: &'a Value,
    metric: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<f64>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    bench: &'a str,
    system: &'a str,
    error: String,
}

/// Prints a line. Where nobody reads any more, as after `bench … | head`, there is nothing to go on for.
pub(crate) fn print(line: &str) {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(e) => {
            eprintln!("bench: the results cannot be written: {e}");
            process::exit(2);
        }
    }
}

fn rounded(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// What a measurement is a measurement of.
#[derive(Clone, Copy)]
pub(crate) struct Metric {
    name: &'static str,
    unit: &'static str,
}

impl Metric {
    pub(crate) const fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit }
    }
}

/// Tells the measurements of one workload.
pub(crate) struct Report {
    bench: &'static str,
    systems: Vec<&'static str>,
    well: bool,
}

impl Report {
    pub(crate) fn new(bench: &'static str, systems: Vec<&'static str>) -> Self {
        Self { bench, systems, well: true }
    }

    pub(crate) fn is_well(&self) -> bool {
        self.well
    }

    pub(crate) fn systems(&self) -> &[&'static str] {
        &self.systems
    }

    fn line(&self, system: &str, params: &Value, metric: Metric, value: f64, runs: Option<&[f64]>) -> String {
        let runs = runs.map(|runs| runs.iter().copied().map(rounded).collect());
        let Metric { name: metric, unit } = metric;
        let line = Line { bench: self.bench, system, params, metric, value: rounded(value), unit, runs };
        // Strings, numbers and objects with text keys are all that is in it.
        serde_json::to_string(&line).expect("a line is JSON")
    }

    fn failure(&self, system: &str, error: &str) -> String {
        let error = error.chars().take(500).collect();
        serde_json::to_string(&Failure { bench: self.bench, system, error }).expect("a line is JSON")
    }

    /// Tells a value that is no median.
    pub(crate) fn emit(&self, system: &str, params: &Value, metric: Metric, value: f64) {
        print(&self.line(system, params, metric, value, None));
    }

    /// Tells the median of some measurements.
    pub(crate) fn emit_runs(&self, system: &str, params: &Value, metric: Metric, runs: &[f64]) {
        print(&self.line(system, params, metric, median(runs), Some(runs)));
    }

    pub(crate) fn fail(&mut self, system: &str, error: &dyn Error) {
        self.well = false;
        eprintln!("bench: {} {system}: {error}", self.bench);
        print(&self.failure(system, &error.to_string()));
    }

    /// Measures each system; the failure of one is told, and the others go on.
    pub(crate) fn for_each(&mut self, mut run: impl FnMut(&Report, &'static str) -> Outcome) {
        for system in self.systems.clone() {
            if let Err(error) = run(self, system) {
                self.fail(system, error.as_ref());
            }
        }
    }
}

/// Seconds that each of `repeat` runs took. What `check` does with the answer takes no part in it.
pub(crate) fn seconds<T>(
    repeat: usize,
    mut run: impl FnMut() -> Outcome<T>,
    mut check: impl FnMut(T) -> Outcome,
) -> Outcome<Vec<f64>> {
    let mut took = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let start = Instant::now();
        let answer = run()?;
        took.push(start.elapsed().as_secs_f64());
        check(answer)?;
    }
    Ok(took)
}

pub(crate) fn require(right: bool, what: &str) -> Outcome {
    if right { Ok(()) } else { Err(format!("wrong answer: {what}").into()) }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// Element `floor(part * N)` of the sorted values, for a part below 1; 0 of nothing.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let sorted = sorted(values);
    sorted.get((part * sorted.len() as f64) as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn percentiles_are_elements() {
        let values: Vec<f64> = (0..500).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 495.0);
        assert_eq!(percentile(&values, 0.5), 250.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn lines_have_the_agreed_form() {
        let report = Report::new("noop", vec!["swath-sync"]);
        let line = report.line("swath-sync", &json!({"n": 5}), Metric::new("time", "s"), 1.0 / 3.0, Some(&[0.25, 0.5]));
        assert_eq!(
            line,
            r#"{"bench":"noop","system":"swath-sync","params":{"n":5},"metric":"time","value":0.333333,"unit":"s","runs":[0.25,0.5]}"#
        );
        let line = report.line("floor", &json!({}), Metric::new("p99", "us"), 2.0, None);
        assert!(!line.contains("runs"));
        let failure: Value = serde_json::from_str(&report.failure("x", "a \"b\"\nc")).unwrap();
        assert_eq!(failure, json!({"bench": "noop", "system": "x", "error": "a \"b\"\nc"}));
        assert!(report.failure("x", &"ü".repeat(600)).len() < 1100);
    }

    #[test]
    fn one_failure_does_not_end_the_others() {
        let mut report = Report::new("noop", vec!["a", "b"]);
        let mut seen = Vec::new();
        report.for_each(|_, system| {
            seen.push(system);
            require(system == "b", "a")
        });
        assert_eq!(seen, ["a", "b"]);
        assert!(!report.is_well());
    }

    #[test]
    fn only_the_run_is_timed() {
        let mut checked = 0;
        let took = seconds(
            3,
            || Ok(5),
            |n| {
                checked += n;
                Ok(())
            },
        );
        assert_eq!(took.unwrap().len(), 3);
        assert_eq!(checked, 15);
        assert!(seconds(1, || Ok(()), |()| require(false, "no")).is_err());
    }
}
