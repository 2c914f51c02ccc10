use swath::bag::Counter;
use swath::{Bag, Client};

fn words() -> Bag<String> {
    let text = "it was the best of times it was the worst of times it was the age of wisdom";
    Bag::from_sequence(text.split(' ').map(String::from), 5)
}

pub fn numbers(client: &Client) {
    let bag = Bag::from_sequence([4.0, 2.0, 5.0, 9.0, 7.0, 4.0, 5.0, 4.0], 3);
    let (count, sum, mean) = client.compute((bag.count(), bag.sum(), bag.mean())).unwrap();
    assert_eq!((count, sum, mean), (8, 40.0, 5.0));
    let (var, sample, std) = client.compute((bag.var(0), bag.var(1), bag.std(0))).unwrap();
    assert_eq!((var, sample, std), (4.0, 32.0 / 7.0, 2.0));
    // Sums of squares would lose everything here.
    let far = Bag::range(0..1000, 7).map(|x| 1e9 + (x % 2) as f64);
    assert!((far.var(0).compute(client).unwrap() - 0.25).abs() < 1e-6);
    assert_eq!(Bag::from_sequence([1_u8, 255, 3], 2).mean().compute(client).unwrap(), 259.0 / 3.0);
    let one = Bag::from_sequence([3], 1);
    assert!(one.var(1).compute(client).unwrap().is_nan());
    assert_eq!(one.var(0).compute(client).unwrap(), 0.0);
}

pub fn extremes(client: &Client) {
    let (max, min) = client.compute((words().max(), words().min())).unwrap();
    assert_eq!((max.as_deref(), min.as_deref()), (Some("worst"), Some("age")));
    // Of equal ones the last and the first, as with iterators.
    let places = words().enumerate();
    let (max, min) =
        client.compute((places.max_by_key(|(_, w)| w == "was"), places.min_by_key(|(_, w)| w != "was"))).unwrap();
    assert_eq!((max.unwrap().0, min.unwrap().0), (13, 1));
    let floats = Bag::from_sequence([0.5, -1.0, 2.5], 2);
    let (max, min) = client.compute((floats.max_by(f64::total_cmp), floats.min_by(f64::total_cmp))).unwrap();
    assert_eq!((max, min), (Some(2.5), Some(-1.0)));
}

pub fn predicates(client: &Client) {
    let bag = Bag::range(0..100, 4);
    let (any, none) = client.compute((bag.any(|x| *x == 60), bag.any(|x| *x == 100))).unwrap();
    let (all, not_all) = client.compute((bag.all(|x| *x < 100), bag.all(|x| *x != 60))).unwrap();
    assert_eq!((any, none, all, not_all), (true, false, true, false));
    // What comes after the first is not looked at.
    let early = Bag::range(0..10, 1).map(|x| 10 / (5 - x)).any(|x| *x > 4);
    assert!(early.compute(client).unwrap());
}

pub fn folds(client: &Client) {
    for width in [2, 3, 100] {
        let joined = words().split_every(width).fold(String::new(), |s, w| s + &w + " ", |a, b| a + &b);
        assert!(joined.compute(client).unwrap().starts_with("it was the best of times it was"));
        let first = words().split_every(width).reduction(|mut w| w.next(), |all| all.into_iter().flatten().next());
        assert_eq!(first.compute(client).unwrap().as_deref(), Some("it"));
        let longest = words().split_every(width).reduce(|a, b| if b.len() > a.len() { b } else { a });
        assert_eq!(longest.compute(client).unwrap().as_deref(), Some("wisdom"));
        assert_eq!(Bag::range(0..1000, 50).split_every(width).count().compute(client).unwrap(), 1000);
    }
    assert_eq!(words().split_every(0).count().compute(client).unwrap(), 18);
    // The tree is as wide as it was said.
    let tasks = |width| Bag::range(0..64, 64).split_every(width).sum().to_dot().matches("[label").count();
    assert_eq!((tasks(2), tasks(4), tasks(8), tasks(64)), (64 + 63, 64 + 21, 64 + 9, 64 + 1));
}

pub fn folds_of_partitions_without_elements(client: &Client) {
    let holes = Bag::from_partitions([vec![], vec![1], vec![], vec![2, 3], vec![]]);
    for width in [2, 3, 8] {
        let holes = holes.split_every(width);
        assert_eq!(holes.fold(10, |a, b| a + b, |a, b| a + b).compute(client).unwrap(), 26);
        let sizes = holes.reduction(|part| vec![part.count()], |sizes| sizes.concat());
        assert_eq!(sizes.compute(client).unwrap(), [1, 2]);
        let none = holes.filter(|x| *x > 3).reduction(|part| vec![part.count()], |sizes| sizes.concat());
        assert!(none.compute(client).unwrap().is_empty());
    }
    // The only partition counts.
    let sizes = Bag::<i64>::from_partitions([]).reduction(|part| vec![part.count()], |sizes| sizes.concat());
    assert_eq!(sizes.compute(client).unwrap(), [0]);
}

pub fn tops(client: &Client) {
    let bag = Bag::from_sequence([5, 3, 9, 1, 9, 7, 2], 3);
    assert_eq!(bag.topk(3).compute(client).unwrap(), [9, 9, 7]);
    assert!(bag.topk(0).compute(client).unwrap().is_empty());
    assert_eq!(bag.topk(100).compute(client).unwrap(), [9, 9, 7, 5, 3, 2, 1]);
    assert_eq!(bag.topk_by_key(2, |x| -x).compute(client).unwrap(), [1, 2]);
    assert_eq!(bag.topk_by(1, |a, b| (a % 5).cmp(&(b % 5))).compute(client).unwrap(), [9]);
    // Of equal ones the first come first.
    let words = words().enumerate().topk_by_key(3, |(_, w)| w.len());
    assert_eq!(words.map(|(i, _)| i).compute(client).unwrap(), [17, 5, 9]);
}

pub fn tables(client: &Client) {
    let counts = words().frequencies();
    assert_eq!(counts.npartitions(), 1);
    let expected = [
        ("it", 3),
        ("was", 3),
        ("the", 3),
        ("best", 1),
        ("of", 3),
        ("times", 2),
        ("worst", 1),
        ("age", 1),
        ("wisdom", 1),
    ];
    assert_eq!(counts.compute(client).unwrap(), expected.map(|(w, n)| (w.to_string(), n)));
    assert_eq!(counts.topk_by_key(1, |(w, n)| (*n, w.len())).map(|(w, _)| w).compute(client).unwrap(), ["was"]);

    let distinct = words().distinct().compute(client).unwrap();
    assert_eq!(distinct, expected.map(|(w, _)| w));
    assert_eq!(words().distinct_by_key(|w| w.len()).compute(client).unwrap(), ["it", "was", "best", "times", "wisdom"]);

    let lengths = words().foldby(|w| w.len(), 0, |n, _| n + 1, |a, b| a + b).compute(client).unwrap();
    assert_eq!(lengths, [(2, 6), (3, 7), (4, 1), (5, 3), (6, 1)]);
    let counted = words().foldby_ref(|w| w.as_str(), 0, |n, _| n + 1, |a, b| a + b).compute(client).unwrap();
    assert_eq!(counted, expected.map(|(w, n)| (w.to_string(), n)));

    let lines = Bag::from_sequence(["a b a", "", "b c"].map(String::from), 3);
    let count = |mut counter: Counter<String>, line: String| {
        counter.extend(line.split_whitespace());
        counter
    };
    let counter = lines.fold(Counter::new(), count, Counter::merge).compute(client).unwrap();
    assert_eq!((counter.len(), counter.get("a"), counter.get("z")), (3, 2, 0));
    assert_eq!(counter.most_common(9), [("a".to_string(), 2), ("b".to_string(), 2), ("c".to_string(), 1)]);
    let pairs: Vec<_> = counter.clone().into_iter().collect();
    assert_eq!(counter, pairs.into_iter().rev().collect());
}

pub fn first_elements(client: &Client) {
    let bag = Bag::range(0..10, 4);
    assert_eq!(bag.take(2, 1).compute(client).unwrap(), [0, 1]);
    assert_eq!(bag.take(5, 1).compute(client).unwrap(), [0, 1]);
    assert_eq!(bag.take(4, 3).compute(client).unwrap(), [0, 1, 2, 3]);
    assert_eq!(bag.take(usize::MAX, usize::MAX).compute(client).unwrap(), (0..10).collect::<Vec<_>>());
    // However far it has to look, and no further.
    let sparse = Bag::range(0..1000, 100).filter(|x| x % 300 == 7);
    assert_eq!(sparse.first(2, client).unwrap(), [7, 307]);
    assert_eq!(sparse.first(9, client).unwrap(), [7, 307, 607, 907]);
    assert!(sparse.first(0, client).unwrap().is_empty() && Bag::range(0..0, 3).first(2, client).unwrap().is_empty());
    assert_eq!(crate::common::block_on(sparse.first_async(3, client)).unwrap(), [7, 307, 607]);
    let wrong = Bag::range(0..1000, 100).map(|x| 1 / (500 - x));
    assert_eq!(wrong.first(2, client).unwrap(), [0, 0]);
    assert!(wrong.first(501, client).unwrap_err().to_string().contains("divide by zero"));
    assert!(bag.take(0, 0).compute(client).unwrap().is_empty());
    // Nothing else is made.
    assert_eq!(bag.map(|x| 1 / (1 - x)).take(1, 1).compute(client).unwrap(), [1]);
}

pub fn of_nothing(client: &Client) {
    let holes: Bag<i64> = Bag::from_partitions([vec![], vec![], vec![]]);
    for bag in [Bag::from_partitions([]), Bag::range(0..10, 3).filter(|x| *x > 10), holes] {
        let (count, sum, max) = client.compute((bag.count(), bag.sum(), bag.max())).unwrap();
        assert_eq!((count, sum, max), (0, 0, None));
        let (mean, var) = client.compute((bag.mean(), bag.var(0))).unwrap();
        assert!(mean.is_nan() && var.is_nan());
        let (any, all, first) = client.compute((bag.any(|_| true), bag.all(|_| false), bag.take(3, 9))).unwrap();
        assert_eq!((any, all, first), (false, true, vec![]));
        assert_eq!(bag.reduce(|a, b| a + b).compute(client).unwrap(), None);
        assert_eq!(bag.fold(5, |a, b| a + b, i64::max).compute(client).unwrap(), 5);
        assert!(bag.frequencies().compute(client).unwrap().is_empty());
        assert!(bag.distinct().compute(client).unwrap().is_empty());
        assert!(bag.topk(3).compute(client).unwrap().is_empty());
        assert!(bag.foldby(|x| x % 2, 0, |a, b| a + b, |a, b| a + b).compute(client).unwrap().is_empty());
        assert!(bag.groupby(|x| x % 2, None).compute(client).unwrap().is_empty());
        assert!(bag.enumerate().compute(client).unwrap().is_empty());
        assert!(bag.accumulate(|a, b| a + b).compute(client).unwrap().is_empty());
        assert!(bag.zip(&bag).unwrap().product(&bag).compute(client).unwrap().is_empty());
        assert!(bag.join(vec![1, 2], |x| *x, |y| *y).compute(client).unwrap().is_empty());
        assert!(bag.repartition(2).repartition(7).compute(client).unwrap().is_empty());
        assert!(bag.repartition_by_size(client, 10).unwrap().compute(client).unwrap().is_empty());
        assert_eq!(bag.iter(client).unwrap().count(), 0);
    }
}
