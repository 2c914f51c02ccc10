//! The command line.

use lexopt::prelude::*;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: bench WORKLOAD|all [--systems A,B,…] [--repeat K] [--workers W] [--quick] [sizes]
       bench --list
  --systems  measure only these (default: all that the workload has)
  --repeat   measurements of which the median is told (default 3, or SWATH_REPEAT)
  --workers  threads or worker processes (default 2; 4 for sleep_loop)
  --quick    small sizes, to see that everything works
sizes, for the workloads that have them:
  --n N  --d DEPTH  --t-ms MS  --via A,B,…  --shape merge,tree  --pattern A,B,…  --steps N
  --width N  --rounds N  --mib N  --kills N  --callers N  --part A,B,…  --data FOLDER
  --gib N  --directory FOLDER  --uses N  --busy";

/// What to measure, and how much of it. Sizes that are not given are the workload's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) workload: String,
    pub(crate) systems: Option<Vec<String>>,
    pub(crate) repeat: usize,
    pub(crate) workers: Option<usize>,
    pub(crate) quick: bool,
    pub(crate) n: Option<u64>,
    pub(crate) depth: Option<u32>,
    pub(crate) t_ms: Option<f64>,
    pub(crate) shape: Option<Vec<String>>,
    /// Ways to submit the work; all, if none is named.
    pub(crate) via: Option<Vec<String>>,
    pub(crate) steps: Option<usize>,
    pub(crate) width: Option<usize>,
    pub(crate) rounds: Option<usize>,
    pub(crate) mib: Option<usize>,
    /// Parts of the workload; all, if none is named.
    pub(crate) part: Option<Vec<String>>,
    /// Where the data are; they are made, if it is not said.
    pub(crate) data: Option<PathBuf>,
    pub(crate) gib: Option<f64>,
    /// Where results go that memory does not take.
    pub(crate) directory: Option<PathBuf>,
    /// Calls of one graph that take the same value.
    pub(crate) uses: Option<usize>,
    pub(crate) kills: Option<u32>,
    /// Threads that submit.
    pub(crate) callers: Option<usize>,
    pub(crate) pattern: Option<Vec<String>>,
    /// Only what is so while tasks run.
    pub(crate) busy: bool,
    /// Whether `repeat` was asked for.
    pub(crate) repeats: bool,
}

impl Options {
    /// The size given, or else `usual`, or else `small` where it has to be quick.
    pub(crate) fn sizes(&self, usual: &[u64], small: &[u64]) -> Vec<u64> {
        match self.n {
            Some(n) => vec![n],
            None => if self.quick { small } else { usual }.to_vec(),
        }
    }

    /// How many measurements, where the workload has a reason for a number of its own.
    pub(crate) fn repeat_or(&self, usual: usize) -> usize {
        if self.repeats || self.quick { self.repeat } else { usual }
    }

    /// How many workers, where the workload has no reason for another number.
    pub(crate) fn width(&self) -> usize {
        self.workers.unwrap_or(2)
    }

    /// Whether this way to submit the work is to be measured. A floor has one way, so it always is.
    pub(crate) fn wants(&self, system: &str, via: &str) -> bool {
        system.starts_with("floor") || self.via.as_ref().is_none_or(|only| only.iter().any(|v| v == via))
    }

    /// Whether this part of the workload is to be measured.
    pub(crate) fn wants_part(&self, part: &str) -> bool {
        self.part.as_ref().is_none_or(|only| only.iter().any(|p| p == part))
    }

    pub(crate) fn quick_or<T>(&self, small: T, usual: T) -> T {
        if self.quick { small } else { usual }
    }
}

/// What this program starts itself again as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Child {
    /// Ends at once.
    Exec,
    /// Sends back what it gets.
    Pong,
    /// Starts a client and tells when its workers have answered.
    Startup,
    /// Has tasks print.
    Print,
    /// Measures tasks that fail.
    Failing,
    /// Sleeps until its input ends.
    Sleep,
    /// Serves a local cluster until its input ends.
    Serve,
}

impl Child {
    pub(crate) const ALL: [(&'static str, Child); 7] = [
        ("exec-child", Child::Exec),
        ("pong-child", Child::Pong),
        ("startup-child", Child::Startup),
        ("print-child", Child::Print),
        ("failing-child", Child::Failing),
        ("sleep-child", Child::Sleep),
        ("serve-child", Child::Serve),
    ];
}

#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Measure(Options),
    Child(Child, Options),
    List,
    Help,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_string).collect()
}

pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Request, lexopt::Error> {
    let repeat = std::env::var("SWATH_REPEAT").ok().and_then(|r| r.parse().ok());
    let mut options = Options { repeat: repeat.unwrap_or(3), repeats: repeat.is_some(), ..Options::default() };
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Request::Help),
            Long("list") => return Ok(Request::List),
            Long("quick") => options.quick = true,
            Long("systems") => options.systems = Some(list(&parser.value()?.string()?)),
            Long("repeat") => (options.repeat, options.repeats) = (parser.value()?.parse()?, true),
            Long("busy") => options.busy = true,
            Long("workers") => options.workers = Some(parser.value()?.parse()?),
            Long("n") => options.n = Some(parser.value()?.parse()?),
            Long("d" | "depth") | Short('d') => options.depth = Some(parser.value()?.parse()?),
            Long("t-ms") => options.t_ms = Some(parser.value()?.parse()?),
            Long("shape") => options.shape = Some(list(&parser.value()?.string()?)),
            Long("via") => options.via = Some(list(&parser.value()?.string()?)),
            Long("steps") => options.steps = Some(parser.value()?.parse()?),
            Long("width") => options.width = Some(parser.value()?.parse()?),
            Long("rounds") => options.rounds = Some(parser.value()?.parse()?),
            Long("part") => options.part = Some(list(&parser.value()?.string()?)),
            Long("data") => options.data = Some(parser.value()?.into()),
            Long("gib") => options.gib = Some(parser.value()?.parse()?),
            Long("directory") => options.directory = Some(parser.value()?.into()),
            Long("mib") => options.mib = Some(parser.value()?.parse()?),
            Long("uses") => options.uses = Some(parser.value()?.parse()?),
            Long("kills") => options.kills = Some(parser.value()?.parse()?),
            Long("callers") => options.callers = Some(parser.value()?.parse()?),
            Long("pattern") => options.pattern = Some(list(&parser.value()?.string()?)),
            Value(name) if options.workload.is_empty() => options.workload = name.string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    if options.workload.is_empty() {
        return Err("say what to measure".into());
    }
    let sizes = [options.n, options.steps.map(|s| s as u64), options.mib.map(|s| s as u64)];
    let counts = [options.workers, options.width, options.callers, options.uses, Some(options.repeat)];
    if sizes.contains(&Some(0)) || counts.contains(&Some(0)) {
        return Err("sizes and counts must be at least 1".into());
    }
    if options.depth.is_some_and(|d| d == 0 || d > 24) {
        return Err("--d is 1 to 24".into());
    }
    if options.t_ms.is_some_and(|t| !(t > 0.0 && t <= 10_000.0)) {
        return Err("--t-ms is above 0 and at most 10000".into());
    }
    if options.gib.is_some_and(|gib| !(gib > 0.0 && gib <= 1024.0)) {
        return Err("--gib is above 0 and at most 1024".into());
    }
    Ok(match Child::ALL.iter().find(|(name, _)| *name == options.workload) {
        Some((_, child)) => Request::Child(*child, options),
        None => Request::Measure(options),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> Result<Request, lexopt::Error> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    fn measured(line: &str) -> Options {
        match read(line).unwrap() {
            Request::Measure(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_read() {
        let o =
            measured("shapes --systems swath-sync,floor-serial --n 10000 --d 15 --repeat 5 --workers 3 --shape tree");
        assert_eq!(o.workload, "shapes");
        assert_eq!(o.systems, Some(vec!["swath-sync".to_string(), "floor-serial".to_string()]));
        assert_eq!((o.n, o.depth, o.repeat, o.width()), (Some(10_000), Some(15), 5, 3));
        assert_eq!(o.shape, Some(vec!["tree".to_string()]));
        assert_eq!(measured("metg --depth 3").depth, Some(3));
        let o = measured("noop --via map,submit");
        assert!(o.wants("swath-sync", "map") && !o.wants("swath-sync", "compute") && o.wants("floor-serial", "loop"));
    }

    #[test]
    fn sizes_have_usual_values() {
        assert_eq!(measured("noop").sizes(&[1, 2], &[3]), [1, 2]);
        assert_eq!(measured("noop --quick").sizes(&[1, 2], &[3]), [3]);
        assert_eq!(measured("noop --quick --n 9").sizes(&[1, 2], &[3]), [9]);
        assert_eq!(measured("noop").width(), 2);
        assert_eq!(measured("--quick noop").quick_or("small", "usual"), "small");
    }

    #[test]
    fn other_requests_are_known() {
        assert_eq!(read("--list").unwrap(), Request::List);
        assert_eq!(read("noop -h").unwrap(), Request::Help);
        assert!(matches!(read("pong-child").unwrap(), Request::Child(Child::Pong, _)));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in
            ["", "--n", "noop --n x", "noop --n 0", "noop more", "noop --workers 0", "noop --repeat 0", "x --d 60"]
        {
            assert!(read(line).is_err(), "{line}");
        }
        for t in ["0", "-1", "NaN", "1e9"] {
            assert!(read(&format!("sleep_loop --t-ms {t}")).is_err(), "{t}");
            assert!(read(&format!("out_of_core --gib {t}")).is_err(), "{t}");
        }
    }
}
