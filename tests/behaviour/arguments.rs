//! Every form in which an argument may be given.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use swath::delayed::value;
use swath::{Buffer, Client, Delayed, Future, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn sum(xs: Vec<i64>) -> i64 {
    xs.iter().sum()
}

fn future(client: &Client, x: i64) -> Future<i64> {
    client.submit(&delayed(inc).call(x - 1)).unwrap()
}

pub fn up_to_eight(client: &Client) {
    type Eight = (u8, u16, u32, u64, i8, i16, i32, i64);
    #[allow(clippy::too_many_arguments, reason = "as many as a task may have")]
    fn eight(a: u8, b: u16, c: u32, d: u64, e: i8, f: i16, g: i32, h: i64) -> Eight {
        (a, b, c, d, e, f, g, h)
    }
    assert_eq!(delayed(|| 7_i64).call().compute(client).unwrap(), 7);
    assert_eq!(delayed(|a: i64, b: i64, c: i64| a * 100 + b * 10 + c).call(1, 2, 3).compute(client).unwrap(), 123);
    let eight = delayed(eight).call(1, 2, 3, 4, -5, -6, -7, i64::MIN);
    assert_eq!(eight.compute(client).unwrap(), (1, 2, 3, 4, -5, -6, -7, i64::MIN));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Named(String, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scene {
    shapes: Vec<Shape>,
    by_name: BTreeMap<String, Option<Shape>>,
    big: u128,
    letter: char,
    nothing: (),
}

pub fn values_of_every_kind(client: &Client) {
    fn same(scene: Scene) -> Scene {
        scene
    }
    let scene = Scene {
        shapes: vec![Shape::Point, Shape::Circle { radius: -0.0 }, Shape::Named("ü".into(), vec![0, 255])],
        by_name: [("a".to_string(), None), ("b".to_string(), Some(Shape::Point))].into(),
        big: u128::MAX,
        letter: '\u{10FFFF}',
        nothing: (),
    };
    assert_eq!(delayed(same).call(scene.clone()).compute(client).unwrap(), scene);
    // Twice, so that it also passes from task to task.
    let again = delayed(same).call(delayed(same).call(scene.clone()));
    assert_eq!(again.compute(client).unwrap(), scene);
    let nan = delayed(|x: f64| x).call(f64::NAN).compute(client).unwrap();
    assert!(nan.is_nan());
    let shared = delayed(|x: std::sync::Arc<String>| x.len()).call(std::sync::Arc::new("four".to_string()));
    assert_eq!(shared.compute(client).unwrap(), 4);
    delayed(|_: ()| ()).call(()).compute(client).unwrap();
}

pub fn delayed_values_and_futures(client: &Client) {
    let add = delayed(|a: i64, b: i64| a + b);
    let (d, f) = (delayed(inc).call(9), future(client, 20));
    assert_eq!(add.call(&d, 1).compute(client).unwrap(), 11);
    assert_eq!(add.call(1, &f).compute(client).unwrap(), 21);
    assert_eq!(add.call(&f, &f).compute(client).unwrap(), 40);
    assert_eq!(add.call(&d, &f).compute(client).unwrap(), 30);
    assert_eq!(add.call(&d, &d).compute(client).unwrap(), 20);
    assert_eq!(add.call(f.delayed(), d.clone()).compute(client).unwrap(), 30);
    assert_eq!(add.call(d, f).compute(client).unwrap(), 30);
}

pub fn lists_of_handles(client: &Client) {
    let sum = delayed(sum);
    let ds: Vec<Delayed<i64>> = delayed(inc).map(0..10);
    let fs: Vec<Future<i64>> = (0..5).map(|x| future(client, x)).collect();
    assert_eq!(sum.call(&ds).compute(client).unwrap(), 55);
    assert_eq!(sum.call(&ds[2..4]).compute(client).unwrap(), 7);
    assert_eq!(sum.call(&fs).compute(client).unwrap(), 10);
    assert_eq!(sum.call(&fs[3..]).compute(client).unwrap(), 7);
    assert_eq!(sum.call([ds[0].clone(), ds[1].clone()]).compute(client).unwrap(), 3);
    assert_eq!(sum.call(&[fs[1].clone(), fs[1].clone()]).compute(client).unwrap(), 2);
    assert_eq!(sum.call(ds).compute(client).unwrap(), 55);
    assert_eq!(sum.call(fs).compute(client).unwrap(), 10);
}

pub fn lists_and_values(client: &Client) {
    let sum = delayed(sum);
    assert_eq!(sum.call(vec![1, 2, 3]).compute(client).unwrap(), 6);
    let mixed = vec![delayed(inc).call(1), value(40), future(client, 3).delayed()];
    assert_eq!(sum.call(mixed).compute(client).unwrap(), 45);
    // The same task twice in one list.
    let x = delayed(inc).call(1);
    assert_eq!(sum.call(vec![x.clone(), x.clone(), value(1), x]).compute(client).unwrap(), 7);
}

pub fn nested_lists(client: &Client) {
    fn lengths(lists: Vec<Vec<i64>>) -> Vec<(usize, i64)> {
        lists.iter().map(|l| (l.len(), l.iter().sum())).collect()
    }
    let inc = delayed(inc);
    let rows = vec![inc.map(0..3), Vec::new(), inc.map(5..6)];
    let wanted = vec![(3, 6), (0, 0), (1, 6)];
    assert_eq!(delayed(lengths).call(rows).compute(client).unwrap(), wanted);
    assert_eq!(delayed(lengths).call(vec![vec![1, 2, 3], vec![], vec![6]]).compute(client).unwrap(), wanted);
    let futures = vec![vec![future(client, 1), future(client, 5)], vec![], vec![future(client, 6)]];
    assert_eq!(delayed(lengths).call(futures).compute(client).unwrap(), [(2, 6), (0, 0), (1, 6)]);
    // Lists of delayed lists.
    let row = delayed(|n: i64| (0..n).collect::<Vec<i64>>());
    assert_eq!(delayed(lengths).call(row.map(0..3_i64)).compute(client).unwrap(), [(0, 0), (1, 0), (2, 1)]);
}

pub fn arrays(client: &Client) {
    fn third(xs: [i64; 3]) -> i64 {
        xs[0] + 10 * xs[1] + 100 * xs[2]
    }
    let inc = delayed(inc);
    assert_eq!(delayed(third).call([1, 2, 3]).compute(client).unwrap(), 321);
    let third = delayed(third).call([inc.call(0), inc.call(1), inc.call(2)]);
    assert_eq!(third.compute(client).unwrap(), 321);
}

pub fn tuples(client: &Client) {
    fn join(pair: (i64, String)) -> String {
        format!("{} {}", pair.0, pair.1)
    }
    fn triple(t: (i64, i64, i64)) -> i64 {
        t.0 + 10 * t.1 + 100 * t.2
    }
    let (x, s) = (delayed(inc).call(1), delayed(|s: String| s + "!").call("two"));
    let join = delayed(join);
    assert_eq!(join.call((2, "two!".to_string())).compute(client).unwrap(), "2 two!");
    assert_eq!(join.call((x.clone(), s.clone())).compute(client).unwrap(), "2 two!");
    assert_eq!(join.call((x.clone(), "two!".to_string())).compute(client).unwrap(), "2 two!");
    assert_eq!(join.call((2, s)).compute(client).unwrap(), "2 two!");
    let triple = delayed(triple);
    assert_eq!(triple.call((x.clone(), x.clone(), x.clone())).compute(client).unwrap(), 222);
    assert_eq!(triple.call((1, x.clone(), 3)).compute(client).unwrap(), 321);
    assert_eq!(triple.call((x.clone(), 1, x.clone())).compute(client).unwrap(), 212);
    let four = delayed(|t: (i64, i64, i64, i64)| t.0 + t.1 + t.2 + t.3);
    assert_eq!(four.call((x.clone(), x.clone(), x.clone(), x)).compute(client).unwrap(), 8);
}

pub fn options(client: &Client) {
    let or = delayed(|x: Option<i64>, otherwise: i64| x.unwrap_or(otherwise));
    assert_eq!(or.call(Some(1), 9).compute(client).unwrap(), 1);
    assert_eq!(or.call(None::<i64>, 9).compute(client).unwrap(), 9);
    assert_eq!(or.call(Some(delayed(inc).call(1)), 9).compute(client).unwrap(), 2);
    assert_eq!(or.call(None::<Delayed<i64>>, 9).compute(client).unwrap(), 9);
    assert_eq!(or.call(Some(future(client, 5)), 9).compute(client).unwrap(), 5);
    assert_eq!(or.call(None::<Future<i64>>, 9).compute(client).unwrap(), 9);
}

pub fn maps(client: &Client) {
    fn hashed(map: HashMap<String, i64>) -> Vec<(String, i64)> {
        let mut pairs: Vec<_> = map.into_iter().collect();
        pairs.sort();
        pairs
    }
    fn sorted(map: BTreeMap<u8, i64>) -> Vec<(u8, i64)> {
        map.into_iter().collect()
    }
    let wanted = vec![("a".to_string(), 1), ("b".to_string(), 2)];
    let given: HashMap<String, i64> = wanted.iter().cloned().collect();
    assert_eq!(delayed(hashed).call(given).compute(client).unwrap(), wanted);
    let lazy: HashMap<String, Delayed<i64>> =
        wanted.iter().map(|(k, v)| (k.clone(), delayed(inc).call(v - 1))).collect();
    assert_eq!(delayed(hashed).call(lazy).compute(client).unwrap(), wanted);
    let futures: BTreeMap<u8, Future<i64>> = (0..3).map(|k| (k, future(client, i64::from(k) * 2))).collect();
    assert_eq!(delayed(sorted).call(futures).compute(client).unwrap(), [(0, 0), (1, 2), (2, 4)]);
    let lazy: BTreeMap<u8, Delayed<i64>> = (0..2).map(|k| (k, value(7))).collect();
    assert_eq!(delayed(sorted).call(lazy).compute(client).unwrap(), [(0, 7), (1, 7)]);
    assert_eq!(delayed(sorted).call(BTreeMap::<u8, Delayed<i64>>::new()).compute(client).unwrap(), []);
}

pub fn text(client: &Client) {
    let shout = delayed(|s: String| s.to_uppercase());
    assert_eq!(shout.call("grüße").compute(client).unwrap(), "GRÜSSE");
    assert_eq!(shout.call("x".to_string()).compute(client).unwrap(), "X");
    assert_eq!(shout.call("").compute(client).unwrap(), "");
    let all = client.compute(&shout.map(["a", "b"])).unwrap();
    assert_eq!(all, ["A", "B"]);
}

pub fn collected(client: &Client) {
    let all: Delayed<Vec<i64>> = (0..100).map(|x| delayed(inc).call(x)).collect();
    assert_eq!(all.compute(client).unwrap(), (1..=100).collect::<Vec<_>>());
}

pub fn empty_inputs(client: &Client) {
    assert_eq!(delayed(sum).call(Vec::<Delayed<i64>>::new()).compute(client).unwrap(), 0);
    assert_eq!(delayed(sum).call(Vec::<Future<i64>>::new()).compute(client).unwrap(), 0);
    assert_eq!(delayed(sum).call(Vec::<i64>::new()).compute(client).unwrap(), 0);
    let none: Vec<Delayed<i64>> = Vec::new();
    assert_eq!(client.compute(&none).unwrap(), Vec::<i64>::new());
    assert!(client.persist(&none).unwrap().is_empty());
    assert!(client.submit_all(&none).unwrap().is_empty());
    assert!(client.map(inc, Vec::<i64>::new()).unwrap().is_empty());
    assert!(client.gather::<i64>(&[]).unwrap().is_empty());
    assert!(client.scatter_all(Vec::<i64>::new()).unwrap().is_empty());
    assert!(client.as_completed(Vec::<Future<i64>>::new()).next().is_none());
    client.wait::<i64>(&[], swath::client::WaitFor::All).unwrap();
    client.wait::<i64>(&[], swath::client::WaitFor::Any).unwrap();
    let empty: Delayed<Vec<i64>> = Vec::<Delayed<i64>>::new().into_iter().collect();
    assert!(empty.compute(client).unwrap().is_empty());
    assert!(empty.is_empty().compute(client).unwrap());
    let buffer = delayed(|b: Buffer<f64>| b).call(Buffer::<f64>::new()).compute(client).unwrap();
    assert!(buffer.is_empty());
    assert_eq!(Vec::<Delayed<i64>>::new().into_iter().sum::<Delayed<i64>>().compute(client).unwrap(), 0);
}
