//! Many tasks, and large values.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use swath::buffer::BufferMut;
use swath::delayed::value;
use swath::memory::MemoryLimit;
use swath::status::Mode;
use swath::{Buffer, Client, Delayed, delayed};

fn inc(x: u64) -> u64 {
    x + 1
}

pub fn long_chain(client: &Client) {
    let n = 100_000;
    let mut x = value(0_u64);
    for _ in 0..n {
        x = delayed(inc).call(&x);
    }
    assert_eq!(x.compute(client).unwrap(), n);
}

pub fn wide_graph(client: &Client) {
    let n = 100_000;
    let total = delayed(|xs: Vec<u64>| xs.iter().sum::<u64>()).call(delayed(inc).map(0..n));
    assert_eq!(total.compute(client).unwrap(), n * (n + 1) / 2);
}

pub fn wide_and_deep(client: &Client) {
    let mut row = delayed(inc).map(0..100);
    for _ in 0..50 {
        row = (0..row.len()).map(|i| &row[i] + &row[(i + 1) % row.len()]).collect();
    }
    let mut wanted: Vec<u64> = (1..=100).collect();
    for _ in 0..50 {
        wanted = (0..100).map(|i| wanted[i].wrapping_add(wanted[(i + 1) % 100])).collect();
    }
    assert_eq!(client.compute(&row).unwrap(), wanted);
}

pub fn large_values(client: &Client) {
    let numbers: Vec<f64> = (0..300_000).map(|x| f64::from(x) / 7.0).collect();
    let text: String = "swath ".repeat(200_000);
    let double = delayed(|v: Vec<f64>| v.into_iter().map(|x| x * 2.0).collect::<Vec<_>>());
    let back = double.call(double.call(numbers.clone())).compute(client).unwrap();
    assert!(back.iter().zip(&numbers).all(|(a, b)| *a == b * 4.0) && back.len() == numbers.len());
    let twice = delayed(|s: String| s + "!").call(text.clone()).compute(client).unwrap();
    assert_eq!(twice.len(), text.len() + 1);
    let scattered = client.scatter(numbers).unwrap();
    let sum = delayed(|v: Vec<f64>, x: f64| v.iter().sum::<f64>() * x);
    let sums = client.compute(&(0..5).map(|i| sum.call(&scattered, f64::from(i))).collect::<Vec<_>>()).unwrap();
    assert_eq!(sums[4], sums[1] * 4.0);
}

pub fn buffers(client: &Client) {
    for n in [0, 1, 8191, 8192, 8193, 500_000] {
        let buffer = Buffer::from_fn(n, |i| i as f64);
        let scaled = delayed(|b: Buffer<f64>| b.iter().map(|x| x * 3.0).collect::<Buffer<f64>>());
        let back = scaled.call(scaled.call(buffer.clone())).compute(client).unwrap();
        assert!(back.len() == n && back.iter().zip(&buffer[..]).all(|(a, b)| *a == b * 9.0), "{n}");
    }
    // Parts of one buffer, with borders that are nothing special.
    let whole = delayed(|| Buffer::from_fn(300_000, |i| i as u32)).call().persist(client).unwrap();
    let part = delayed(|b: Buffer<u32>, from: usize, to: usize| b.slice(from..to));
    let parts = vec![part.call(&whole, 1, 100_002), part.call(&whole, 299_999, 300_000), part.call(&whole, 7, 7)];
    let parts = client.compute(&parts).unwrap();
    assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [100_001, 1, 0]);
    assert_eq!((parts[0][0], parts[0][100_000], parts[1][0]), (1, 100_001, 299_999));
    let made = delayed(|n: usize| {
        let mut b = BufferMut::<u8>::zeroed(n).unwrap();
        b[n - 1] = 9;
        b.freeze()
    });
    let made = made.call(1 << 20).compute(client).unwrap();
    assert_eq!((made.len(), made[0], made[(1 << 20) - 1]), (1 << 20, 0, 9));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Table {
    name: String,
    columns: BTreeMap<String, Buffer<i64>>,
    masks: Vec<Option<Buffer<u8>>>,
    pair: (Buffer<f32>, Box<Option<Buffer<f64>>>),
}

fn table(n: usize) -> Table {
    let shared = Buffer::from_fn(n, |i| i as i64);
    Table {
        name: format!("{n} rows"),
        columns: [("a".into(), shared.clone()), ("b".into(), shared.slice(n / 2..)), ("c".into(), shared)].into(),
        masks: vec![None, Some(Buffer::from_fn(n * 8, |i| i as u8)), Some(Buffer::new())],
        pair: (Buffer::from_fn(n, |i| i as f32), Box::new(Some(Buffer::from_fn(3, |i| i as f64)))),
    }
}

pub fn buffers_in_structures(client: &Client) {
    let n = 20_000;
    let made = delayed(table).call(n);
    let same = delayed(|t: Table| t).call(&made);
    let rows = delayed(|t: Table| t.columns.values().map(|c| c.iter().sum::<i64>()).sum::<i64>());
    let (back, sum) = client.compute((&same, &rows.call(&same))).unwrap();
    assert_eq!(back, table(n));
    let half: i64 = (n as i64 / 2..n as i64).sum();
    assert_eq!(sum, 2 * (0..n as i64).sum::<i64>() + half);
    assert_eq!(rows.call(table(n)).compute(client).unwrap(), sum);
    let many = vec![table(9000); 20];
    let count = delayed(|ts: Vec<Table>| ts.iter().map(|t| t.columns.len()).sum::<usize>());
    assert_eq!(count.call(many).compute(client).unwrap(), 60);
}

/// What one cluster has made, and numbered, is given to another one, and back.
pub fn buffers_of_another_client(client: &Client) {
    fn make(i: u64) -> Buffer<u64> {
        Buffer::from_slice(&[i; 20_000])
    }
    fn sum(buffers: Vec<Buffer<u64>>) -> u64 {
        buffers.iter().map(|buffer| buffer[19_999]).sum()
    }
    let other = Client::local(2, 1, MemoryLimit::None).unwrap();
    let ours = client.compute(&delayed(make).map(0..20)).unwrap();
    let theirs = other.compute(&delayed(make).map(100..120)).unwrap();
    for (at, giver, values) in [(client, 100, &theirs), (&other, 0, &ours)] {
        let own = at.persist(&delayed(make).map(200..220)).unwrap();
        let lent = at.scatter(values[3].clone()).unwrap();
        assert_eq!(at.compute(&delayed(sum).call(vec![value(values[3].clone())])).unwrap(), giver + 3);
        assert_eq!(at.compute(&delayed(|there: Buffer<u64>| there[7]).call(&lent)).unwrap(), giver + 3);
        let given: Vec<_> = values.iter().map(|buffer| value(buffer.clone())).collect();
        let wanted: u64 = (0..20).map(|i| giver + i).sum();
        assert_eq!(at.compute(&delayed(sum).call(given)).unwrap(), wanted);
        let own = at.compute(&own).unwrap();
        assert!(own.iter().zip(200..).all(|(buffer, i)| buffer[19_999] == i));
    }
    assert!(theirs.iter().zip(100..).all(|(buffer, i)| buffer[0] == i));
}

pub fn buffers_are_read_in_place(client: &Client) {
    let n = 100_000;
    let shared = client.mode() == Mode::Processes;
    // Made in a worker, read in the client.
    let made = delayed(|n: usize| Buffer::from_fn(n, |i| i as f64)).call(n).compute(client).unwrap();
    assert_eq!(made.is_shared(), shared);
    assert_eq!(made[n - 1], (n - 1) as f64);
    // Made in the client, read in a worker.
    let look = delayed(|b: Buffer<f64>| (b.is_shared(), b.len()));
    let ours = Buffer::from_fn(n, |i| i as f64);
    assert_eq!(look.call(ours.clone()).compute(client).unwrap(), (shared, n));
    let scattered = client.scatter(ours).unwrap();
    assert_eq!(look.call(&scattered).compute(client).unwrap(), (shared, n));
    // Made in one task, read in others, wherever they run.
    let kept = delayed(|n: usize| Buffer::from_fn(n, |i| i as u64)).call(n).persist(client).unwrap();
    let looks: Vec<_> = (0..20).map(|_| delayed(|b: Buffer<u64>| b.is_shared()).call(&kept)).collect();
    assert_eq!(client.compute(&looks).unwrap(), [shared; 20]);
    // What came from a worker goes back without a copy.
    assert_eq!(look.call(made).compute(client).unwrap(), (shared, n));
}

pub fn memory_is_released(client: &Client) {
    // Together far more than this test may use.
    for i in 0..40_u8 {
        let heap = delayed(|i: u8| vec![i; 20 << 20]).call(i).persist(client).unwrap();
        assert_eq!(heap.map(|v: Vec<u8>| v[v.len() - 1]).compute(client).unwrap(), i);
        let large = delayed(|i: u8| Buffer::from_slice(&vec![i; 20 << 20])).call(i);
        let future = client.submit(&large).unwrap();
        assert_eq!(future.result().unwrap()[17], i);
    }
    for worker in client.workers().unwrap() {
        assert!(worker.memory < 300 << 20, "{} uses {} bytes", worker.name, worker.memory);
    }
    let all: Vec<Delayed<u64>> = (0..8).map(|_| delayed(inc).call(1)).collect();
    assert_eq!(client.compute(&all).unwrap(), [2; 8]);
}
