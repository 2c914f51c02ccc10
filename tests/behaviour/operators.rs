//! Operators, indexing and methods of lazy values.

use std::time::Duration;
use swath::delayed::value;
use swath::{Client, Delayed, delayed};

fn num(x: i64) -> i64 {
    x
}

pub fn arithmetic(client: &Client) {
    let (a, b) = (delayed(num).call(17), delayed(num).call(5));
    let all = vec![&a + &b, &a - &b, &a * &b, &a / &b, &a % &b, -&a, a.clone() + b.clone(), a.clone() - &b, &a * b];
    assert_eq!(client.compute(&all).unwrap(), [22, 12, 85, 3, 2, -17, 22, 12, 85]);
    let halves = (value(1.0_f64) / value(4.0) + value(0.5)) * 2.0;
    assert_eq!(halves.compute(client).unwrap(), 1.5);
    let time = value(Duration::from_secs(2)) * 3_u32 + value(Duration::from_secs(1));
    assert_eq!(time.compute(client).unwrap(), Duration::from_secs(7));
}

pub fn bits_and_comparisons(client: &Client) {
    let (a, b) = (value(0b1100_u32), value(0b1010_u32));
    let bits = vec![&a & &b, &a | &b, &a ^ &b, &a << 2_u32, &a >> 2_u32];
    assert_eq!(client.compute(&bits).unwrap(), [0b1000, 0b1110, 0b0110, 0b11_0000, 0b11]);
    assert!(!(!value(true)).compute(client).unwrap());
    let answers = client.compute((&a.equals(&b), &a.equals(12), &b.less_than(&a), &a.max(&b), &a.min(1))).unwrap();
    assert_eq!(answers, (false, true, true, 12, 1));
}

pub fn scalars_on_both_sides(client: &Client) {
    let x = delayed(num).call(10);
    let all = vec![&x + 1, 1 + &x, 100 - &x, &x * 2, 2 * x.clone(), 100 / x.clone(), x.clone() % 3, 7 % &x];
    assert_eq!(client.compute(&all).unwrap(), [11, 11, 90, 20, 20, 10, 1, 7]);
}

pub fn sums_and_products(client: &Client) {
    let xs = delayed(num).map(1..=6_i64);
    let sum: Delayed<i64> = xs.iter().sum();
    let product: Delayed<i64> = xs.into_iter().product();
    assert_eq!(client.compute((&sum, &product)).unwrap(), (21, 720));
}

pub fn indexing(client: &Client) {
    let list = delayed(|n: i64| (0..n).map(|x| x * x).collect::<Vec<_>>()).call(10);
    let (at, last) = (list.at(3), list.at(delayed(|| 9_usize).call()));
    assert_eq!(client.compute((&at, &last, &list.len(), &list.is_empty())).unwrap(), (9, 81, 10, false));
    let error = list.at(10).compute(client).unwrap_err();
    assert!(error.to_string().contains("index out of bounds"), "{error}");
}

pub fn unpacking(client: &Client) {
    let (q, r) = delayed(|a: i64, b: i64| (a / b, a % b)).call(17, 5).unpack();
    assert_eq!(client.compute((&q, &r)).unwrap(), (3, 2));
    assert_eq!((q * 5 + r).compute(client).unwrap(), 17);
    let (a, b, c) = delayed(|| (1_u8, "two".to_string(), 3.0)).call().unpack();
    assert_eq!(client.compute((&a, &b, &c)).unwrap(), (1, "two".to_string(), 3.0));
    let (a, _, _, d) = delayed(|| (1_i64, 2_i64, 3_i64, 4_i64)).call().unpack();
    assert_eq!((a + d).compute(client).unwrap(), 5);
    let [x, y, z] = delayed(|| vec![1_i64, 2, 3]).call().unpack();
    assert_eq!((x + y * 10 + z * 100).compute(client).unwrap(), 321);
}

pub fn methods(client: &Client) {
    let words = delayed(|s: String| s.split(' ').map(String::from).collect::<Vec<_>>()).call("a bb ccc");
    let longest = words.map(|ws: Vec<String>| ws.iter().map(String::len).max().unwrap_or(0));
    assert_eq!(longest.compute(client).unwrap(), 3);
    let parsed = value("42".to_string()).try_map(|s: String| s.parse::<i64>().map_err(|e| e.to_string()));
    assert_eq!(parsed.compute(client).unwrap(), 42);
    assert!(parsed.to_dot().starts_with("digraph"));
}

/// With operators of numbers and delayed values in scope, Rust must still see what plain arithmetic means.
pub fn plain_arithmetic(_: &Client) {
    let line = "some text";
    let offset = |at: u64| at - line.len() as u64;
    assert_eq!(offset(10), 1);
    let parsed: u64 = 3 + "4".parse::<u64>().unwrap_or_default();
    assert_eq!(parsed, 7);
}
