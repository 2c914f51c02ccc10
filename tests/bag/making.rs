use swath::delayed::value;
use swath::{Bag, Client, delayed};

pub fn sequences(client: &Client) {
    let bag = Bag::from_sequence(0..10, 3);
    assert_eq!(bag.npartitions(), 3);
    assert_eq!(client.compute(&bag).unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!(client.compute(&bag.to_delayed()).unwrap(), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8, 9]]);

    assert_eq!(Bag::from_sequence(0..10_000, None).npartitions(), 100);
    assert_eq!(Bag::from_sequence(0..3, None).npartitions(), 3);
    let large = Bag::from_sequence((0..100_000).map(|i| format!("line {i}")), 3);
    assert_eq!(
        client.compute(&large.map(|s| s.len()).sum()).unwrap(),
        (0..100_000).map(|i| format!("line {i}").len()).sum::<usize>()
    );
}

pub fn ranges(client: &Client) {
    for (from, to, n) in [(0, 10, Some(3)), (-5, 1000, None), (3, 3, None), (3, -3, Some(2)), (0, 1, Some(9))] {
        let bag = Bag::range(from..to, n);
        assert_eq!(client.compute(&bag).unwrap(), (from..to).collect::<Vec<_>>());
    }
    assert_eq!(
        Bag::range(i64::MAX - 3..i64::MAX, 2).compute(client).unwrap(),
        [i64::MAX - 3, i64::MAX - 2, i64::MAX - 1]
    );
}

pub fn lists_and_lazy_lists(client: &Client) {
    let bag = Bag::from_partitions([vec![1, 2], vec![], vec![3]]);
    assert_eq!(bag.npartitions(), 3);
    assert_eq!(bag.compute(client).unwrap(), [1, 2, 3]);

    let lists = delayed(|n: u32| (0..n).collect::<Vec<u32>>()).map([2, 0, 3]);
    let bag = Bag::from_delayed(lists.clone()).map(|x| x + 1);
    assert_eq!(bag.compute(client).unwrap(), [1, 2, 1, 2, 3]);
    assert_eq!(bag.select([2, 0]).compute(client).unwrap(), [1, 2, 3, 1, 2]);
    let again = Bag::from_delayed(bag.to_delayed()).map(|x| x * 2);
    assert_eq!(again.compute(client).unwrap(), [2, 4, 2, 4, 6]);
    let total = delayed(|lists: Vec<Vec<u32>>| lists.concat().iter().sum::<u32>()).call(bag.to_delayed());
    assert_eq!(total.compute(client).unwrap(), 9);
}

pub fn generated(client: &Client) {
    let bag = Bag::generate(|n: u64| 0..n, vec![value(2), delayed(|x: u64| x * 2).call(2)]);
    assert_eq!(bag.compute(client).unwrap(), [0, 1, 0, 1, 2, 3]);
    let bag = Bag::generate(|word: String| word.into_bytes(), ["ab", "c"]);
    assert_eq!(bag.compute(client).unwrap(), b"abc");

    let lines = |n: i64| match n {
        0 => Err("nothing there".to_string()),
        n => Ok((0..n).map(|i| if i < 5 { Ok(i) } else { Err(format!("{i} is too much")) })),
    };
    assert_eq!(Bag::try_generate(lines, [2, 1]).compute(client).unwrap(), [0, 1, 0]);
    let error = Bag::try_generate(lines, [2, 0]).count().compute(client).unwrap_err();
    let error = error.task().unwrap();
    assert_eq!(error.downcast::<String>().unwrap(), "nothing there");
    let error = Bag::try_generate(lines, [2, 9]).map(|x| x + 1).compute(client).unwrap_err();
    assert!(error.to_string().ends_with("5 is too much (at element 5 of partition 1)"), "{error}");
}

pub fn empty(client: &Client) {
    for bag in [
        Bag::from_sequence(Vec::<i64>::new(), None),
        Bag::from_partitions([]),
        Bag::from_delayed([]),
        Bag::generate(|n: i64| 0..n, Vec::<i64>::new()),
    ] {
        assert_eq!(bag.npartitions(), 1);
        let mapped = bag.map(|x| x + 1).filter(|x| *x > 0);
        assert!(mapped.compute(client).unwrap().is_empty());
        assert_eq!(client.compute((&mapped.count(), &mapped.sum())).unwrap(), (0, 0));
    }
}

#[test]
fn the_widest_range() {
    let client = Client::sync();
    let ends = |range: std::ops::Range<i64>| {
        let bag = Bag::range(range, 4).map_partitions(|numbers| numbers.take(1));
        bag.compute(&client).unwrap()
    };
    assert_eq!(ends(i64::MIN..i64::MAX)[..2], [i64::MIN, i64::MIN / 2 - 1]);
    assert!(ends(5..5).is_empty() && ends(std::ops::Range { start: 5, end: -5 }).is_empty());
}
