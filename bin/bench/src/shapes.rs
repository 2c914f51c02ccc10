//! Two graphs in which everything is overhead: the sum of N tasks, and a binary tree.

use crate::options::Options;
use crate::report::{Metric, Outcome, Report, require, seconds};
use crate::tasks::{add, inc, merge};
use crate::{pool, systems};
use rayon_core::ThreadPool;
use serde_json::json;
use std::hint::black_box;
use swath::{Client, delayed};

fn merge_of(client: &Client, n: u64) -> Outcome<u64> {
    Ok(delayed(merge).call(delayed(inc).map(0..n)).compute(client)?)
}

pub(crate) fn tree_of(client: &Client, depth: u32) -> Outcome<u64> {
    let add = delayed(add);
    let mut level: Vec<_> = (0..1_u64 << (depth - 1)).map(|i| add.call(2 * i, 2 * i + 1)).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| add.call(&pair[0], &pair[1])).collect();
    }
    Ok(level[0].compute(client)?)
}

fn tree_by_hand(depth: u32) -> u64 {
    let mut level: Vec<u64> = (0..1 << depth).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| add(black_box(pair[0]), black_box(pair[1]))).collect();
    }
    level[0]
}

/// Something that sums up.
enum Way {
    Client(Client),
    Pool(ThreadPool),
    Hand,
}

impl Way {
    fn open(system: &str, workers: usize) -> Outcome<Self> {
        Ok(match system {
            "floor-serial" => Self::Hand,
            "floor-rayon" => Self::Pool(pool::open(workers)?),
            _ => Self::Client(systems::open(system, workers)?),
        })
    }

    fn merge(&self, n: u64) -> Outcome<u64> {
        match self {
            Self::Client(client) => merge_of(client, n),
            Self::Pool(pool) => Ok(merge(pool::noops(pool, n))),
            Self::Hand => Ok(merge((0..n).map(|x| inc(black_box(x))).collect())),
        }
    }

    fn tree(&self, depth: u32) -> Outcome<u64> {
        match self {
            Self::Client(client) => tree_of(client, depth),
            Self::Pool(pool) => Ok(pool::tree(pool, depth)),
            Self::Hand => Ok(tree_by_hand(depth)),
        }
    }
}

pub(crate) fn run(report: &mut Report, options: &Options) {
    let workers = options.width();
    let wanted = |shape: &str| options.shape.as_ref().is_none_or(|only| only.iter().any(|s| s == shape));
    let depths = match options.depth {
        Some(depth) => vec![depth],
        None => options.quick_or(vec![8], vec![11, 15, 20]),
    };
    report.for_each(|report, system| {
        let way = Way::open(system, workers)?;
        let measure = |params: serde_json::Value, tasks: u64, right: u64, run: &dyn Fn() -> Outcome<u64>| {
            let took = seconds(options.repeat, run, |answer| require(answer == right, "another sum"))?;
            let rates: Vec<f64> = took.iter().map(|t| tasks as f64 / t).collect();
            report.emit_runs(system, &params, Metric::new("throughput", "tasks/s"), &rates);
            report.emit_runs(system, &params, Metric::new("time", "s"), &took);
            Outcome::Ok(())
        };
        if wanted("merge") {
            for n in options.sizes(&[2000, 10_000, 100_000], &[500]) {
                let params = json!({"shape": "merge", "n": n, "tasks": n + 1, "workers": workers});
                measure(params, n + 1, n * (n + 1) / 2, &|| way.merge(n))?;
            }
        }
        if wanted("tree") {
            for &depth in &depths {
                let m = 1_u64 << depth;
                let params = json!({"shape": "tree", "depth": depth, "tasks": m - 1, "workers": workers});
                measure(params, m - 1, m * (m - 1) / 2, &|| way.tree(depth))?;
            }
        }
        Ok(())
    });
}
