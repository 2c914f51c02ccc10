//! Several bags at once, elements by chance, and the file that each line is from.

use crate::common::{directory, path};
use std::collections::BTreeMap;
use std::fs;
use swath::bag::BagError;
use swath::files::Files;
use swath::{Bag, Client, Error};

/// The error of a bag's own, with the whole text.
fn failure<T: swath::Data + std::fmt::Debug>(bag: &Bag<T>, client: &Client) -> (BagError, String) {
    let error = bag.compute(client).unwrap_err();
    (error.task().unwrap().downcast::<BagError>().unwrap(), error.to_string())
}

pub fn functions_of_several_bags(client: &Client) {
    let (a, b) = (Bag::range(0..10, 3), Bag::range(100..110, 3).map(|x| x.to_string()));
    let both = a.map2(&b, |x, text| format!("{x}:{text}")).unwrap();
    assert_eq!(both.compute(client).unwrap(), (0..10).map(|x| format!("{x}:{}", 100 + x)).collect::<Vec<_>>());
    let three = a.map3(&a.map(|x| x * x), &b, |x, y, text| x + y + text.len() as i64).unwrap();
    assert_eq!(three.compute(client).unwrap(), (0..10).map(|x| x + x * x + 3).collect::<Vec<_>>());
    let rows = Bag::zip_all((0..12).map(|i| a.map_with(|x, i: &i64| x * i, i))).unwrap();
    assert_eq!(rows.npartitions(), 3);
    let expected: Vec<Vec<i64>> = (0..10).map(|x| (0..12).map(|i| x * i).collect()).collect();
    assert_eq!(rows.compute(client).unwrap(), expected);
    assert_eq!(Bag::zip_all([a.clone()]).unwrap().flatten().sum().compute(client).unwrap(), 45);
    // A bag with itself, persisted, and of nothing.
    let kept = a.persist(client).unwrap();
    assert_eq!(kept.map2(&kept, |x, y| x - y).unwrap().sum().compute(client).unwrap(), 0);
    let none = Bag::<i64>::from_partitions([vec![], vec![]]);
    assert!(none.map2(&none, |x, y| x + y).unwrap().compute(client).unwrap().is_empty());
    assert!(Bag::zip_all([none.clone(), none]).unwrap().compute(client).unwrap().is_empty());
    // A function that panics says where.
    let error = a.map2(&a, |x, y| 1 / (x * y - 49)).unwrap().compute(client).unwrap_err().to_string();
    assert!(error.contains("divide by zero") && error.contains("of partition 2"), "{error}");
}

pub fn bags_of_different_lengths(client: &Client) {
    let a = Bag::from_partitions([vec![1, 2, 3], vec![4]]);
    let short = Bag::from_partitions([vec![1, 2], vec![4]]);
    let uneven = |shorter: &str| BagError::Uneven { shorter: shorter.to_string() };
    for (bag, shorter) in [
        (a.map2(&short, |x, y| x + y).unwrap(), "right"),
        (short.map2(&a, |x, y| x + y).unwrap(), "left"),
        (a.map3(&a, &short, |x, y, z| x + y + z).unwrap(), "third"),
        (a.map3(&short, &a, |x, y, z| x + y + z).unwrap(), "second"),
        (short.map3(&a, &a, |x, y, z| x + y + z).unwrap(), "first"),
        (Bag::zip_all([a.clone(), a.clone(), short.clone(), a.clone()]).unwrap().flatten(), "3rd"),
        (a.zip(&short).unwrap().map(|(x, y)| x + y), "right"),
        (short.zip(&a).unwrap().map(|(x, y)| x + y), "left"),
    ] {
        let (error, text) = failure(&bag, client);
        assert_eq!(error, uneven(shorter));
        assert!(text.contains("(in partition 0)"), "{text}");
    }
    let other = Bag::from_partitions([vec![1, 2, 3, 4]]);
    for error in [
        a.map2(&other, |x, y| x + y).unwrap_err(),
        a.map3(&a, &other, |x, y, z| x + y + z).unwrap_err(),
        Bag::zip_all([a.clone(), other.clone()]).unwrap_err(),
        Bag::<i64>::zip_all([]).unwrap_err(),
        a.zip(&other).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let error = a.map3(&a, &other, |x, y, z| x + y + z).unwrap_err().to_string();
    assert_eq!(error, "bad value for the bags of `map3`: 2, 2 and 1 partitions; `repartition` makes them equal");
}

pub fn elements_by_chance(client: &Client) {
    let bag =
        Bag::from_partitions([(0..5).collect(), vec![], (5..60).collect(), vec![60], (61..100).collect::<Vec<i64>>()]);
    // The same seed gives the same in every mode.
    let sample = bag.split_every(2).sample(10, 7).compute(client).unwrap();
    assert_eq!(sample, bag.split_every(2).sample(10, 7).compute(&Client::sync()).unwrap());
    assert_ne!(sample, bag.sample(10, 8).compute(client).unwrap());
    assert_ne!(bag.sample(10, None).compute(client).unwrap(), bag.sample(10, None).compute(client).unwrap());
    let mut all = bag.sample(100, 3).compute(client).unwrap();
    assert_eq!(bag.sample(100, 3).npartitions(), 1);
    assert!(!all.is_sorted());
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    let choices = bag.split_every(2).choices(500, 7).compute(client).unwrap();
    assert_eq!(choices.len(), 500);
    assert_eq!(choices, bag.split_every(2).choices(500, 7).compute(&Client::sync()).unwrap());
    assert_ne!(choices, bag.choices(500, 8).compute(client).unwrap());
    assert!(choices.iter().all(|x| (0..100).contains(x)));
    // Steps before and behind.
    assert_eq!(bag.map(|x| x.min(0)).choices(3, 1).map(|x| x + 1).sum().compute(client).unwrap(), 3);
}

/// Each element is as likely as any other, whatever partition it is in.
pub fn chances_are_even(client: &Client) {
    let bag =
        Bag::from_partitions([vec![0], vec![], (1..8).collect(), vec![8, 9], vec![10], (11..20).collect::<Vec<i64>>()])
            .split_every(2);
    let mut drawn = BTreeMap::<i64, [f64; 2]>::new();
    let bags = (0..60_u64).map(|seed| Bag::concat([bag.choices(100, seed), bag.sample(10, seed)]));
    for partitions in
        client.compute(&bags.map(|bag| bag.map_partitions(|p| [p.collect::<Vec<_>>()])).collect::<Vec<_>>()).unwrap()
    {
        for (i, partition) in partitions.into_iter().enumerate() {
            partition.into_iter().for_each(|x| drawn.entry(x).or_default()[i] += 1.0);
        }
    }
    // Of 6,000 choices 300 each, give or take 17; of 60 samples 30 each, give or take 4.
    assert_eq!(drawn.len(), 20);
    for (x, [choices, samples]) in drawn {
        assert!((choices - 300.0).abs() < 85.0 && (samples - 30.0).abs() < 20.0, "{x}: {choices} {samples}");
    }
}

pub fn more_than_there_are(client: &Client) {
    let (none, three) = (Bag::<i64>::from_partitions([vec![], vec![]]), Bag::range(0..3, 2));
    for (bag, wanted, found) in [
        (none.choices(2, 1), 2, 0),
        (none.sample(1, 1), 1, 0),
        (three.sample(4, 1), 4, 3),
        (three.sample(usize::MAX, 1), u64::MAX, 3),
    ] {
        let (error, text) = failure(&bag, client);
        assert_eq!(error, BagError::TooFew { wanted, found });
        assert!(text.contains(&format!("{wanted} element(s) were to be drawn, and the bag has {found}")), "{text}");
        assert!(text.contains("(in partition 0)"), "{text}");
    }
    for bag in [none.choices(0, 1), none.sample(0, 1), three.choices(0, 1), three.sample(0, 1)] {
        assert!(bag.compute(client).unwrap().is_empty());
    }
}

pub fn lines_with_their_paths(client: &Client) {
    let dir = directory();
    let text: String = (0..40).map(|i| format!("line {i}\n")).collect();
    fs::write(path(&dir, "a.txt"), &text).unwrap();
    fs::write(path(&dir, "b.txt"), "one\ntwo").unwrap();
    fs::write(path(&dir, "c.txt"), "").unwrap();
    let here = fs::canonicalize(dir.path()).unwrap();
    let name = |file: &str| here.join(file).to_str().unwrap().to_string();
    let mut expected: Vec<(String, String)> = text.lines().map(|line| (line.to_string(), name("a.txt"))).collect();
    expected.extend(["one", "two"].map(|line| (line.to_string(), name("b.txt"))));
    let files = || Files::new(here.join("*.txt"));
    for files in [files(), files().blocksize(50), files().files_per_partition(3)] {
        let lines = Bag::read_text_with_path(files).unwrap();
        let found = lines.map(|(line, path)| (line, path.to_string())).compute(client).unwrap();
        assert_eq!(found, expected);
    }
    let counts =
        Bag::read_text_with_path(files()).unwrap().map(|(_, path)| path).frequencies().compute(client).unwrap();
    assert_eq!(counts, [(name("a.txt").into(), 40), (name("b.txt").into(), 2)]);
    fs::write(path(&dir, "b.txt"), [0xff, b'\n']).unwrap();
    let error = Bag::read_text_with_path(files()).unwrap().compute(client).unwrap_err().to_string();
    assert!(error.contains("b.txt"), "{error}");
}
