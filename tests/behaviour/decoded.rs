//! What is not done twice for a value that several tasks read, and what is not copied of one that is held.

use crate::common::{directory, note, notes, path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use swath::delayed::value;
use swath::status::Mode;
use swath::{Client, delayed};

/// A value that leaves a line for each time that it is decoded.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Table")]
struct Decoded(Table);

#[derive(Clone, Serialize, Deserialize)]
struct Table {
    file: String,
    rows: Vec<(u64, String)>,
}

impl From<Table> for Decoded {
    fn from(table: Table) -> Self {
        note(&table.file, std::process::id());
        Self(table)
    }
}

fn table(file: String) -> Arc<Decoded> {
    let rows = (0..2000).map(|i| (i, format!("row {i}"))).collect();
    Arc::new(Decoded(Table { file, rows }))
}

fn row(table: Arc<Decoded>, i: u64) -> u64 {
    table.0.rows[i as usize].0 + table.0.rows.len() as u64
}

fn own_row(table: Arc<Decoded>, i: u64) -> u64 {
    let mut table = Arc::unwrap_or_clone(table);
    table.0.rows.truncate(i as usize + 1);
    table.0.rows[i as usize].0 + 2000
}

/// No process has decoded it twice; in the modes of one process nothing is decoded.
fn decoded_once(client: &Client, file: &str, what: &str) {
    let mut by_process = BTreeMap::new();
    notes(file).into_iter().for_each(|pid| *by_process.entry(pid).or_insert(0) += 1);
    assert!(by_process.values().all(|&times| times == 1), "{what}: {by_process:?}");
    assert!(client.mode() == Mode::Processes || by_process.is_empty(), "{what}: {by_process:?}");
}

pub fn a_value_of_many_tasks_is_decoded_once_a_worker(client: &Client) {
    let dir = directory();
    let wanted: Vec<u64> = (0..60).map(|i| i + 2000).collect();

    let file = path(&dir, "scattered");
    let held = client.scatter(table(file.clone())).unwrap();
    let rows: Vec<_> = (0..60).map(|i| delayed(row).call(&held, i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted);
    let rows: Vec<_> = (0..60).map(|i| delayed(own_row).call(&held, i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted, "each owns what it gets");
    decoded_once(client, &file, "scattered");

    let file = path(&dir, "made");
    let made = delayed(table).call(&*file);
    let rows: Vec<_> = (0..60).map(|i| delayed(row).call(&made, i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted);
    decoded_once(client, &file, "the result of a task");

    let file = path(&dir, "everywhere");
    let held = client.broadcast(table(file.clone())).unwrap();
    let rows: Vec<_> = (0..60).map(|i| delayed(row).call(&held, i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted);
    decoded_once(client, &file, "broadcast");
}

pub fn equal_arguments_of_a_graph_are_one(client: &Client) {
    let dir = directory();
    let wanted: Vec<u64> = (0..12).map(|i| i + 2000).collect();

    let file = path(&dir, "clones");
    let table = Arc::unwrap_or_clone(table(file.clone()));
    let of_own = |table: Decoded, i: u64| table.0.rows[i as usize].0 + 2000;
    let rows: Vec<_> = (0..12).map(|i| delayed(of_own).call(table.clone(), i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted);
    let values: Vec<_> = (0..12).map(|i| delayed(of_own).call(value(table.clone()), i)).collect();
    assert_eq!(client.compute(&values).unwrap(), wanted);
    let both = notes(&file);
    let workers = client.workers().map_or(0, |workers| workers.len());
    assert!(both.len() <= 2 * workers, "two graphs: {both:?}");

    let file = path(&dir, "shared");
    let shared = Arc::new(Decoded(Table { file: file.clone(), ..table.0 }));
    let rows: Vec<_> = (0..12).map(|i| delayed(row).call(Arc::clone(&shared), i)).collect();
    assert_eq!(client.compute(&rows).unwrap(), wanted);
    decoded_once(client, &file, "an `Arc`");

    // Lists of numbers, which are compared before they are encoded, and others that differ in one place.
    let list: Vec<u64> = (0..20_000).collect();
    let other: Vec<u64> = list.iter().map(|&x| if x == 777 { 0 } else { x }).collect();
    let sum = |list: Vec<u64>, i: u64| list.iter().sum::<u64>() + i;
    let sums: Vec<_> = (0..12).map(|i| delayed(sum).call(if i % 3 == 0 { &other } else { &list }.clone(), i)).collect();
    let all: u64 = list.iter().sum();
    let wanted: Vec<u64> = (0..12).map(|i| all + i - if i % 3 == 0 { 777 } else { 0 }).collect();
    assert_eq!(client.compute(&sums).unwrap(), wanted);
}

/// An item that leaves a line for each time that it is cloned.
#[derive(Debug, Serialize, Deserialize)]
struct Cloned {
    file: String,
    number: u64,
}

impl Clone for Cloned {
    fn clone(&self) -> Self {
        note(&self.file, self.number);
        Self { file: self.file.clone(), number: self.number }
    }
}

pub fn a_part_of_a_held_value_is_all_that_is_copied(client: &Client) {
    let dir = directory();
    let file = path(&dir, "clones");
    let make = |file: String| (0..100).map(|number| Cloned { file: file.clone(), number }).collect::<Vec<_>>();
    let held = delayed(make).call(&*file).persist(client).unwrap();
    assert_eq!(client.compute((&held.len(), &held.is_empty())).unwrap(), (100, false));
    assert_eq!(notes(&file), [""; 0]);
    assert_eq!(held.at(7).compute(client).unwrap().number, 7);
    let [first, second] = held.unpack();
    assert_eq!(client.compute((&first.map(|c: Cloned| c.number), &second.map(|c: Cloned| c.number))).unwrap(), (0, 1));
    let copied = notes(&file);
    assert!(copied.len() <= 6 && copied.iter().all(|n| ["7", "0", "1"].contains(&n.as_str())), "{copied:?}");

    let file = path(&dir, "parts");
    let make = |file: String| {
        let [a, b, c] = [1, 2, 3].map(|number| Cloned { file: file.clone(), number });
        (a, b, c)
    };
    let held = delayed(make).call(&*file).persist(client).unwrap();
    assert_eq!(held.unpack().1.compute(client).unwrap().number, 2);
    let copied = notes(&file);
    assert!(copied.len() <= 2 && copied.iter().all(|n| n == "2"), "{copied:?}");
    // Nobody else has it: the only part that is used is moved.
    let file = path(&dir, "moved");
    let number = delayed(make).call(&*file).unpack().2.map(|c: Cloned| c.number);
    assert_eq!(number.compute(client).unwrap(), 3);
    assert_eq!(notes(&file), [""; 0]);
    let wrong = delayed(|| vec![1, 2]).call().at(5).compute(client).unwrap_err().to_string();
    assert!(wrong.contains("the len is 2 but the index is 5"), "{wrong}");
}
