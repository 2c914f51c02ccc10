use crate::common::{directory, note, notes, path, pids, send_signal};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use swath::status::Mode;
use swath::{Bag, Client};

pub fn by_key(client: &Client) {
    let bag = Bag::range(0..1000, 7).map(|x| (x % 13, format!("number {x}")));
    for n in [None, Some(1), Some(3), Some(40)] {
        let groups = bag.groupby(|(k, _)| *k, n);
        assert_eq!(groups.npartitions(), n.unwrap_or(7));
        let all = groups.compute(client).unwrap();
        assert_eq!(all.len(), 13);
        for (key, group) in &all {
            let expected: Vec<_> =
                (0..1000).filter(|x| x % 13 == *key).map(|x| (*key, format!("number {x}"))).collect();
            assert_eq!(*group, expected);
        }
        assert_eq!(groups.compute(client).unwrap(), all);
    }
    let sizes = bag.groupby(|(k, _)| k % 2 == 0, None).starmap(|even, group| (even, group.len()));
    let sizes: HashMap<_, _> = sizes.compute(client).unwrap().into_iter().collect();
    assert_eq!(sizes, HashMap::from([(true, 538), (false, 462)]));
    let words = Bag::from_sequence(["a", "b", "a"].map(String::from), 3).groupby(String::clone, 2);
    assert_eq!(words.count().compute(client).unwrap(), 2);
}

pub fn kept_and_grouped_again(client: &Client) {
    let groups = Bag::range(0..500, 5).groupby(|x| x % 10, 4).persist(client).unwrap();
    let again = groups.flat_map(|(_, group)| group).groupby(|x| x % 3, 3);
    let mut sums = again.starmap(|key, group| (key, group.iter().sum::<i64>())).compute(client).unwrap();
    sums.sort();
    let expected = (0..3).map(|key| (key, (0..500).filter(|x| x % 3 == key).sum()));
    assert_eq!(sums, expected.collect::<Vec<(i64, i64)>>());
}

pub fn errors(client: &Client) {
    let error = Bag::range(0..10, 2).groupby(|x| 10 / (x - 8), None).compute(client).unwrap_err();
    assert!(error.to_string().contains("divide by zero (at element 3 of partition 1)"), "{error}");
    let late = Bag::range(0..10, 2).groupby(|x| *x, 3).map(|(key, _)| 1 / (key - 4));
    assert!(late.compute(client).unwrap_err().to_string().contains("divide by zero"));
}

/// A worker dies with its pieces: they are made again.
pub fn a_worker_dies(client: &Client) {
    if client.mode() != Mode::Processes {
        return;
    }
    let dir = directory();
    let (made, file) = (path(&dir, "made"), path(&dir, "gone"));
    let bag = Bag::range(0..400, 8).map_partitions_with(
        |elements, made: std::sync::Arc<String>| {
            note(&made, std::process::id());
            elements.map(|x| (x % 50, vec![x; 100]))
        },
        made.as_str(),
    );
    let groups = bag.groupby(|(key, _)| *key, 16).map_with(
        |(key, group), (file, made): &(String, String)| {
            // The first task of this layer ends the process, after all of the other layer have been done; and one that
            // has made pieces.
            let me = std::process::id().to_string();
            if notes(file).is_empty() && notes(made).contains(&me) {
                note(file, &me);
                send_signal(std::process::id(), Signal::SIGKILL);
            }
            (key, group.len())
        },
        (file.clone(), made.clone()),
    );
    let before = pids(client);
    let mut sizes = groups.compute(client).unwrap();
    sizes.sort();
    assert_eq!(sizes, (0..50).map(|key| (key, 8)).collect::<Vec<_>>());
    assert!(notes(&made).len() > 8, "{}", notes(&made).len());
    assert_ne!(pids(client), before);
}
