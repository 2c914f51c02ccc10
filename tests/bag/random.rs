//! Random partitions against plain iterators.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use swath::{Bag, Client};

fn check(client: &Client, test: impl Fn(&[Vec<i64>], Bag<i64>, usize)) {
    let lists = prop::collection::vec(prop::collection::vec(-20_i64..20, 0..12), 1..9);
    // A client of processes is slow beside the others.
    let cases = if client.mode() == swath::status::Mode::Processes { 12 } else { 48 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&(lists, 0_usize..12), |(lists, n)| {
            test(&lists, Bag::from_partitions(lists.clone()), n);
            Ok(())
        })
        .unwrap();
}

pub fn transforms(client: &Client) {
    check(client, |lists, bag, n| {
        let all = || lists.iter().flatten().copied();
        let steps = bag.map(|x| x * 3).filter(|x| x % 2 == 0).flat_map(|x| [x, -x]).remove(|x| *x > 30);
        let expected = all().map(|x| x * 3).filter(|x| x % 2 == 0).flat_map(|x| [x, -x]).filter(|x| *x <= 30);
        assert_eq!(steps.compute(client).unwrap(), expected.collect::<Vec<_>>());
        assert_eq!(bag.repartition(n).compute(client).unwrap(), all().collect::<Vec<_>>());
        assert_eq!(bag.enumerate().compute(client).unwrap(), all().enumerate().collect::<Vec<_>>());
        let sums: Vec<_> = all()
            .scan(0, |sum, x| {
                *sum += x;
                Some(*sum)
            })
            .collect();
        assert_eq!(bag.accumulate(|a, x| a + x).compute(client).unwrap(), sums);
        let zipped = bag.zip(&bag.map(|x| x + 1)).unwrap();
        assert_eq!(zipped.compute(client).unwrap(), all().map(|x| (x, x + 1)).collect::<Vec<_>>());
        let read: Vec<_> = bag.iter(client).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, all().collect::<Vec<_>>());
        let firsts: Vec<_> = lists.iter().take(n.max(1)).flatten().take(5).copied().collect();
        assert_eq!(bag.take(5, n).compute(client).unwrap(), firsts);
    });
}

pub fn reductions(client: &Client) {
    check(client, |lists, bag, n| {
        let all = || lists.iter().flatten().copied();
        let bag = bag.split_every(n);
        let (count, sum, max, min) = client.compute((bag.count(), bag.sum(), bag.max(), bag.min())).unwrap();
        assert_eq!((count, sum, max, min), (all().count(), all().sum(), all().max(), all().min()));
        let places = bag.enumerate().split_every(n);
        let (max, min) =
            client.compute((places.max_by_key(|(_, x)| x / 4), places.min_by_key(|(_, x)| x / 4))).unwrap();
        assert_eq!(max, all().enumerate().max_by_key(|(_, x)| x / 4));
        assert_eq!(min, all().enumerate().min_by_key(|(_, x)| x / 4));
        let (mean, var) = client.compute((bag.mean(), bag.var(0))).unwrap();
        let (total, n_all) = (all().sum::<i64>() as f64, all().count() as f64);
        if n_all > 0.0 {
            let expected = all().map(|x| (x as f64 - total / n_all).powi(2)).sum::<f64>() / n_all;
            assert!((mean - total / n_all).abs() < 1e-9 && (var - expected).abs() < 1e-9);
        }
        let mut sorted: Vec<_> = all().enumerate().collect();
        sorted.sort_by_key(|(_, x)| std::cmp::Reverse(*x / 3));
        sorted.truncate(n);
        assert_eq!(places.topk_by_key(n, |(_, x)| x / 3).compute(client).unwrap(), sorted);
        let text = bag.fold(String::new(), |s, x| format!("{s}{x},"), |a, b| a + &b).compute(client).unwrap();
        assert_eq!(text, all().map(|x| format!("{x},")).collect::<String>());
    });
}

pub fn tables(client: &Client) {
    check(client, |lists, bag, n| {
        let all = || lists.iter().flatten().copied();
        let mut met = BTreeSet::new();
        let distinct: Vec<_> = all().filter(|x| met.insert(*x)).collect();
        let counts: Vec<_> = distinct.iter().map(|x| (*x, all().filter(|y| y == x).count())).collect();
        let (found, frequencies) = client.compute((bag.distinct(), bag.split_every(n).frequencies())).unwrap();
        assert_eq!((found, frequencies), (distinct, counts));
        let mut groups = BTreeMap::<i64, Vec<i64>>::new();
        all().for_each(|x| groups.entry(x % 5).or_default().push(x));
        let found: BTreeMap<_, _> = bag.groupby(|x| x % 5, n).compute(client).unwrap().into_iter().collect();
        assert_eq!(found, groups);
        let sums = bag.foldby(|x| x % 5, 0, |a, x| a + x, |a, b| a + b).compute(client).unwrap();
        let expected: BTreeMap<_, i64> = groups.iter().map(|(k, g)| (*k, g.iter().sum())).collect();
        assert_eq!(sums.into_iter().collect::<BTreeMap<_, _>>(), expected);
        let pairs = bag.join((-3..3).collect::<Vec<i64>>(), |x| x % 4, |y| *y).compute(client).unwrap();
        let expected = all().flat_map(|x| (-3..3).filter(move |y| *y == x % 4).map(move |y| (y, x)));
        assert_eq!(pairs, expected.collect::<Vec<_>>());
    });
}
