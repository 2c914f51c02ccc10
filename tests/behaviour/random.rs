//! Random graphs, evaluated one task after the other and in every mode.

use crate::common::{Clean, processes};
use proptest::prelude::*;
use swath::delayed::value;
use swath::{Client, Delayed, Future, delayed, try_delayed};

#[derive(Clone, Debug)]
enum Op {
    Given(i64),
    Add(usize, usize),
    Scale(usize, i64),
    List(Vec<usize>),
    /// Fails when its input is a multiple of seven.
    Picky(usize),
    Pair(usize),
    Panics(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => any::<i8>().prop_map(|x| Op::Given(x.into())),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::Add(a, b)),
        3 => (any::<usize>(), -3..3_i64).prop_map(|(a, k)| Op::Scale(a, k)),
        2 => prop::collection::vec(any::<usize>(), 0..6).prop_map(Op::List),
        2 => any::<usize>().prop_map(Op::Picky),
        2 => any::<usize>().prop_map(Op::Pair),
        1 => any::<usize>().prop_map(Op::Panics),
    ]
}

fn wrap(x: i64) -> i64 {
    x.rem_euclid(1_000_003)
}

fn add(a: i64, b: i64) -> i64 {
    wrap(a + b)
}

fn scale(a: i64, k: i64) -> i64 {
    wrap(a * k)
}

fn list(xs: Vec<i64>) -> i64 {
    wrap(xs.iter().enumerate().map(|(i, x)| (i as i64 + 1) * x).sum())
}

fn picky(x: i64) -> Result<i64, String> {
    if x % 7 == 0 { Err(format!("{x} is a multiple of seven")) } else { Ok(x) }
}

fn pair(x: i64) -> (i64, i64) {
    (x / 10, x % 10)
}

fn panics(x: i64) -> i64 {
    if x % 11 == 0 { panic!("{x} is a multiple of eleven") } else { x }
}

/// One after the other: each value, or nothing where a task it needs fails.
fn serially(ops: &[Op]) -> Vec<Option<i64>> {
    let mut done: Vec<Option<i64>> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let of = |j: &usize| if i == 0 { Some(1) } else { done[j % i] };
        let value = match op {
            Op::Given(x) => Some(*x),
            Op::Add(a, b) => of(a).zip(of(b)).map(|(a, b)| add(a, b)),
            Op::Scale(a, k) => of(a).map(|a| scale(a, *k)),
            Op::List(xs) => xs.iter().map(of).collect::<Option<Vec<_>>>().map(list),
            Op::Picky(x) => of(x).and_then(|x| picky(x).ok()),
            Op::Pair(x) => of(x).map(|x| pair(x).0 + 3 * pair(x).1),
            Op::Panics(x) => of(x).filter(|x| x % 11 != 0),
        };
        done.push(value);
    }
    done
}

fn lazily(ops: &[Op], pure: bool, priorities: bool) -> Vec<Delayed<i64>> {
    let mut done: Vec<Delayed<i64>> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let of = |j: &usize| if i == 0 { value(1) } else { done[j % i].clone() };
        let lazy = match op {
            Op::Given(x) => value(*x),
            Op::Add(a, b) => {
                let mut add = delayed(add);
                if pure {
                    add = add.pure();
                }
                if priorities {
                    add = add.priority(i as i32 % 5 - 2);
                }
                add.call(of(a), of(b))
            }
            Op::Scale(a, k) => if pure { delayed(scale).pure() } else { delayed(scale) }.call(of(a), *k),
            Op::List(xs) => delayed(list).call(xs.iter().map(of).collect::<Vec<_>>()),
            Op::Picky(x) => try_delayed(picky).retries(i as u32 % 2).call(of(x)),
            Op::Pair(x) => {
                let (a, b) = delayed(pair).call(of(x)).unpack();
                a + b * 3
            }
            Op::Panics(x) => delayed(panics).call(of(x)),
        };
        done.push(lazy);
    }
    done
}

#[test]
fn every_mode_computes_what_one_after_the_other_does() {
    let _clean = Clean::start();
    let clients = [Client::sync(), Client::threads(1), Client::threads(4), processes(2, 1), processes(1, 3)];
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(ops in prop::collection::vec(op(), 1..60), pure in any::<bool>(), priorities in any::<bool>(), split in 0..60_usize)| {
        let wanted = serially(&ops);
        let lazies = lazily(&ops, pure, priorities);
        for client in &clients {
            // Some are results of an earlier graph.
            let early: Vec<Future<i64>> = client.submit_all(&lazies[..split.min(lazies.len())]).unwrap();
            let futures = client.submit_all(&lazies).unwrap();
            for (i, (future, wanted)) in futures.iter().zip(&wanted).enumerate() {
                prop_assert_eq!(future.result().ok(), *wanted, "{} in {}", i, client);
            }
            for (future, wanted) in early.iter().zip(&wanted) {
                prop_assert_eq!(future.result().ok(), *wanted);
            }
            let good: Vec<_> = lazies.iter().zip(&wanted).filter(|(_, w)| w.is_some()).map(|(l, _)| l).collect();
            let values: Vec<_> = wanted.iter().flatten().copied().collect();
            prop_assert_eq!(client.compute(&good).unwrap(), values);
        }
    });
}
