//! Reading in the client what a bag has.

use crate::common::{block_on, directory, note, notes, path};
use swath::{Bag, Client};

pub fn one_partition_at_a_time(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let bag = Bag::range(0..1000, 100).map_partitions_with(
        |elements, file: std::sync::Arc<String>| {
            note(&file, "made");
            elements
        },
        file.as_str(),
    );
    let first: Vec<i64> = bag.iter(client).unwrap().take(15).map(Result::unwrap).collect();
    assert_eq!(first, (0..15).collect::<Vec<_>>());
    assert!(notes(&file).len() < 15, "{}", notes(&file).len());

    let all: Vec<i64> = bag.iter(client).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    let kept = bag.persist(client).unwrap();
    let all: Vec<i64> = kept.iter(client).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

pub fn shared_parts_once(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    // A source of its own for each reading: what one has made may still be held when the next one begins, and is used then.
    let source = |reading: u8| {
        Bag::range(0..100, 10).map_partitions_with(
            |elements, made: std::sync::Arc<(String, u8)>| {
                note(&made.0, "made");
                elements
            },
            (file.as_str().to_string(), reading),
        )
    };
    let read = |bag: Bag<i64>| bag.iter(client).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let made = || notes(&file).len();
    let mut sorted = read(source(1).groupby(|x| x % 7, 5).flat_map(|(_, group)| group));
    sorted.sort();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_eq!(made(), 10);
    assert_eq!(read(source(2).repartition(40)), (0..100).collect::<Vec<_>>());
    assert_eq!(made(), 20);
    assert_eq!(read(source(3).accumulate(|a, x| a + x)).last(), Some(&4950));
    assert_eq!(made(), 30);
    assert_eq!(read(source(4).enumerate().map(|(i, x)| i as i64 - x)), [0; 100]);
    assert_eq!(made(), 40);
    // Of other tasks too.
    let slow = swath::delayed(|file: String| note(&file, "other")).call(file.as_str());
    assert_eq!(read(Bag::range(0..9, 9).map_with(|x, _: &()| x, &slow)), (0..9).collect::<Vec<_>>());
    assert_eq!(made(), 41);
}

pub fn failing_partitions(client: &Client) {
    let bag = Bag::range(0..6, 3).map(|x| if x == 2 { panic!("two") } else { x });
    let read: Vec<_> = bag.iter(client).unwrap().map(|x| x.map_err(|e| e.to_string())).collect();
    assert_eq!((read[0].clone(), read[1].clone(), read[3].clone(), read[4].clone()), (Ok(0), Ok(1), Ok(4), Ok(5)));
    assert!(read[2].as_ref().is_err_and(|e| e.contains("two (at element 0 of partition 1)")), "{read:?}");
}

pub fn in_async_code(client: &Client) {
    let bag = Bag::range(0..50, 10).map(|x| x * 2);
    let sum = block_on(async {
        let mut elements = bag.iter(client).unwrap();
        let mut sum = 0;
        while let Some(element) = elements.next_async().await {
            sum += element.unwrap();
        }
        sum + bag.compute_async(client).await.unwrap().len() as i64
    });
    assert_eq!(sum, 2450 + 50);
}
