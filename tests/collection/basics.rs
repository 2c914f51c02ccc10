//! Layers, trees, and what every collection can.

use super::numbers::{Numbers, SIZE};
use crate::common::{block_on, directory, note, notes, path, pids, send_signal};
use nix::sys::signal::Signal;
use std::sync::Arc;
use swath::collection::{ChunkId, Chunks, Collection, CollectionExt, Elements, Input, Layer};
use swath::status::Mode;
use swath::{Bag, Client, delayed};

fn doubled(len: usize) -> Vec<f64> {
    (0..len).map(|x| 2.0 * x as f64).collect()
}

/// How many tasks a picture of the graph shows.
fn tasks(dot: &str) -> usize {
    dot.lines().filter(|line| line.contains("[label")).count()
}

pub fn two_inputs(client: &Client) {
    for len in [1, SIZE, 10, 101] {
        let x = Numbers::ramp(len);
        assert_eq!(x.nchunks(), len.div_ceil(SIZE));
        assert_eq!(x.compute(client).unwrap(), (0..len).map(|x| x as f64).collect::<Vec<_>>());
        assert_eq!(x.add(&x).compute(client).unwrap(), doubled(len));
    }
    let none = Numbers::ramp(0);
    assert_eq!((none.nchunks(), none.compute(client).unwrap()), (0, vec![]));
}

pub fn sums(client: &Client) {
    assert_eq!(Numbers::ramp(101).sum().compute(client).unwrap(), 5050.0);
    assert_eq!(Numbers::ramp(101).sum().key(), Numbers::ramp(101).sum().key());
    assert_ne!(Numbers::ramp(101).sum().key(), Numbers::ramp(102).sum().key());
    assert_eq!(Numbers::ramp(0).sum().compute(client).unwrap(), 0.0);
    // 25 chunks of 3 at a time: 9, 3, 1.
    assert_eq!(tasks(&Numbers::ramp(100).sum().to_dot()), 25 + 25 + 9 + 3 + 1);
}

pub fn kept(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let noted = |chunk: Arc<Vec<f64>>, file: Arc<String>| {
        note(&file, chunk.len());
        Arc::unwrap_or_clone(chunk)
    };
    let layer = Layer::over((Input::chunk(&Numbers::ramp(10).chunks), Input::shared(file.as_str())));
    let x = Numbers { chunks: layer.chunks(noted), len: 10 };
    let kept = x.persist(client).unwrap();
    assert_eq!(kept.sum().compute(client).unwrap(), 45.0);
    assert_eq!(kept.add(&kept).compute(client).unwrap(), doubled(10));
    assert_eq!(notes(&file).len(), 3);
    assert_eq!(kept.nchunks(), 3);
    // The client still has the results of equal tasks.
    assert_eq!(x.compute(client).unwrap().len(), 10);
    assert_eq!(notes(&file).len(), 3);
}

pub fn read_one_by_one(client: &Client) {
    let x = Numbers::ramp(10);
    let mut chunks = x.add(&x).iter(client).unwrap();
    assert_eq!(chunks.next().unwrap().unwrap(), doubled(4));
    assert_eq!(chunks.left(), 2);
    assert_eq!(chunks.map(|chunk| chunk.unwrap().len()).collect::<Vec<_>>(), [4, 2]);
    let mut chunks = x.iter(client).unwrap();
    assert_eq!(block_on(chunks.next_async()).unwrap().unwrap(), [0.0, 1.0, 2.0, 3.0]);
}

pub fn drawn_and_named(client: &Client) {
    let x = Numbers::ramp(10);
    let sum = x.add(&x);
    let dot = sum.to_dot().unwrap();
    assert_eq!(tasks(&dot), 6, "{dot}");
    assert!(dot.contains("label=\"ramp\"") && dot.contains("label=\"add\""), "{dot}");
    let named = sum.name("doubled").retries(2).priority(3).timeout(crate::common::LONG).memory(1000);
    assert!(named.to_dot().unwrap().contains("label=\"doubled\""));
    assert_eq!(named.compute(client).unwrap(), doubled(10));
    if client.mode() == Mode::Processes {
        let error = sum.tag("nowhere").compute(client).unwrap_err();
        assert!(matches!(error.task().unwrap().cause(), swath::error::Cause::Infeasible { .. }), "{error}");
    }
    assert_eq!(client.compute(&sum.to_delayed().unwrap()[2]).unwrap(), [16.0, 18.0]);
    assert!(format!("{:?}", sum.chunks).contains("add, 3 chunks"), "{:?}", sum.chunks);
}

pub fn held_as_a_rule(client: &Client) {
    let (x, rule) = (Numbers::ramp(101), Numbers::ramp_by_rule(101));
    let keys = |numbers: &Numbers| numbers.to_delayed().unwrap().iter().map(|c| c.key()).collect::<Vec<_>>();
    assert_eq!(keys(&x), keys(&rule));
    let sum = rule.add_by_rule(&rule);
    assert_eq!(keys(&x.add(&x)), keys(&sum));
    assert_eq!(sum.compute(client).unwrap(), doubled(101));
    assert_eq!(tasks(&sum.to_dot().unwrap()), 52);
    let (sum, total) = client.compute((&sum.persist(client).unwrap(), &sum.sum())).unwrap();
    assert_eq!((sum.len(), total), (101, 10_100.0));
    assert_eq!(rule.name("from-rule").to_dot().unwrap().matches("from-rule").count(), 2 * 26);

    // A long chain is expanded, and dropped, without deep recursion; a large one takes no time to describe.
    let mut chain = Numbers::ramp_by_rule(8);
    for _ in 0..20_000 {
        chain = chain.add_by_rule(&Numbers::ramp_by_rule(8));
    }
    drop(chain);
    let mut chain = Numbers::ramp_by_rule(8);
    for _ in 0..500 {
        chain = chain.add_by_rule(&Numbers::ramp_by_rule(8));
    }
    assert_eq!(chain.compute(client).unwrap()[7], 501.0 * 7.0);
    let large = Layer::over((Input::place(),)).times(1 << 40).as_rule().chunks(|place: ChunkId| place.number());
    assert_eq!(large.len(), 1 << 40);
}

pub fn many_inputs(client: &Client) {
    #[allow(clippy::too_many_arguments, reason = "as many as there may be")]
    fn all(
        chunk: Arc<Vec<f64>>,
        elements: Elements<f64>,
        scale: Arc<f64>,
        own: Arc<i64>,
        every: Arc<Vec<Vec<f64>>>,
        pair: Arc<Vec<Vec<f64>>>,
        place: ChunkId,
        other: Arc<Vec<f64>>,
    ) -> (usize, f64, i64, usize, usize, String, f64) {
        let sum = elements.sum::<f64>() * *scale;
        (chunk.len(), sum, *own, every.len(), pair.len(), place.to_string(), other[0])
    }
    let x = Numbers::ramp(16).chunks.in_grid(&[2, 2]);
    let lazy = delayed(|| 10.0).call();
    let inputs = (
        Input::chunk(&x),
        Input::elements(&x),
        Input::shared(&lazy),
        Input::each([5, 6, 7, 8]),
        Input::all(&x),
        Input::lists(&x, [vec![0, 1], vec![], vec![3], vec![1]]),
        Input::place(),
        Input::chunk_at(&x, [3, 2, 1, 0]),
    );
    let made = Layer::over(inputs).chunks(all).compute(client).unwrap();
    let expected = [
        (4, 60.0, 5, 4, 2, "chunk (0, 0)".to_string(), 12.0),
        (4, 220.0, 6, 4, 0, "chunk (0, 1)".to_string(), 8.0),
        (4, 380.0, 7, 4, 1, "chunk (1, 0)".to_string(), 4.0),
        (4, 540.0, 8, 4, 1, "chunk (1, 1)".to_string(), 0.0),
    ];
    assert_eq!(made, expected);
    // Steps that read elements are one task, here with several inputs.
    let scaled = Layer::over((Input::elements(&Numbers::ramp(8).whole()), Input::shared(3_i64)))
        .elements(|all: Elements<i64>, by: Arc<i64>| all.map(move |x| x * *by));
    assert_eq!(scaled.compute(client).unwrap().concat(), (0..8).map(|x| 3 * x).collect::<Vec<_>>());
    assert_eq!(tasks(&scaled.to_dot().unwrap()), 4);
}

pub fn in_async_code(client: &Client) {
    let x = Numbers::ramp(10);
    let kept = block_on(x.persist_async(client)).unwrap();
    assert_eq!(block_on(kept.add(&x).compute_async(client)).unwrap(), doubled(10));
}

pub fn beside_others(client: &Client) {
    let (x, bag, one) = (Numbers::ramp(10), Bag::range(0..10, 3), delayed(|| 1).call());
    let (numbers, squares, one, sums) =
        client.compute((&x.add(&x), bag.map(|x| x * x), &one, vec![x.clone(), x.add(&x)])).unwrap();
    assert_eq!((numbers, one), (doubled(10), 1));
    assert_eq!(squares, (0..10).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(sums, [(0..10).map(|x| x as f64).collect(), doubled(10)]);
    let (kept, bag) = client.persist((&x, &bag)).unwrap();
    assert_eq!(client.compute((&kept.sum(), bag.sum())).unwrap(), (45.0, 45));
    // Chunks by themselves, and those of several collections in one.
    let both = Chunks::concat([x.chunks.clone(), x.chunks.select([0])]);
    assert_eq!(client.compute(&both).unwrap().concat().len(), 14);
}

pub fn made_again_when_a_worker_dies(client: &Client) {
    if client.mode() != Mode::Processes {
        return;
    }
    let kept = Numbers::ramp(40).persist(client).unwrap();
    assert_eq!(kept.sum().compute(client).unwrap(), 780.0);
    send_signal(pids(client)[0], Signal::SIGKILL);
    assert_eq!(kept.add(&kept).sum().compute(client).unwrap(), 1560.0);
}
