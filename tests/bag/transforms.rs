use std::collections::{BTreeMap, HashMap};
use swath::bag::{BagError, Json};
use swath::delayed::value;
use swath::{Bag, Client, Error, delayed};

fn words() -> Bag<String> {
    Bag::from_sequence(["apple", "bean", "avocado", "cherry", "banana"].map(String::from), 3)
}

pub fn element_by_element(client: &Client) {
    let numbers = Bag::range(0..20, 3);
    assert_eq!(numbers.map(|x| x * x).compute(client).unwrap(), (0..20).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(numbers.filter(|x| x % 3 == 0).compute(client).unwrap(), [0, 3, 6, 9, 12, 15, 18]);
    assert_eq!(numbers.remove(|x| *x > 2).compute(client).unwrap(), [0, 1, 2]);
    let halves = numbers.filter_map(|x| (x % 5 == 0).then_some(x as f64 / 2.0));
    assert_eq!(halves.compute(client).unwrap(), [0.0, 2.5, 5.0, 7.5]);
    let letters = words().flat_map(|w| w.chars().take(2).collect::<Vec<_>>());
    assert_eq!(letters.compute(client).unwrap().into_iter().collect::<String>(), "apbeavchba");
    let nested = Bag::from_sequence([vec![1, 2], vec![], vec![3]], 2);
    assert_eq!(nested.flatten().compute(client).unwrap(), [1, 2, 3]);
}

pub fn arguments_for_all(client: &Client) {
    let numbers = Bag::from_sequence([1.0, 2.0, 6.0], 2);
    let centred = numbers.map_with(|x, mean| x - mean, numbers.mean());
    assert_eq!(centred.compute(client).unwrap(), [-2.0, -1.0, 3.0]);
    let scaled = numbers.map_with(|x, by: &(f64, f64)| x * by.0 + by.1, (2.0, 1.0));
    assert_eq!(scaled.compute(client).unwrap(), [3.0, 5.0, 13.0]);
    let allowed = delayed(|n: usize| n + 1).call(4);
    assert_eq!(words().filter_with(|w, most| w.len() < *most, allowed).compute(client).unwrap(), ["bean"]);
    let cut = words()
        .flat_map_with(|w, at: &Vec<usize>| at.iter().map(|i| w[..*i].to_string()).collect::<Vec<_>>(), vec![1, 2]);
    assert_eq!(cut.compute(client).unwrap().concat(), "aapbbeaavcchbba");
    let some = words().try_map_with(
        |w, known: &Vec<String>| known.iter().position(|k| *k == w).ok_or(w),
        vec!["bean".to_string(), "apple".to_string()],
    );
    assert_eq!(some.take(1, 2).compute(client).unwrap(), [1]);
    assert_eq!(some.compute(client).unwrap_err().task().unwrap().downcast::<String>().unwrap(), "avocado");
}

pub fn whole_partitions(client: &Client) {
    let bag = Bag::from_sequence([3, 1, 2, 9, 8, 7], 2);
    let sorted = bag.map_partitions(|elements| {
        let mut all: Vec<i32> = elements.collect();
        all.sort();
        all
    });
    assert_eq!(sorted.compute(client).unwrap(), [1, 2, 3, 7, 8, 9]);
    let first = bag.map_partitions_with(|elements, n| elements.take(*n), value(2_usize));
    assert_eq!(first.compute(client).unwrap(), [3, 1, 9, 8]);
    let windows = bag.map_partitions(|elements| {
        let mut last = None;
        elements.filter_map(move |x| last.replace(x).map(|before| x - before))
    });
    assert_eq!(windows.compute(client).unwrap(), [-2, 1, -1, -1]);
}

pub fn tuples(client: &Client) {
    let pairs = Bag::from_sequence([(1, 2), (3, 4)], 2);
    assert_eq!(pairs.starmap(|a, b| a * b).compute(client).unwrap(), [2, 12]);
    let triples = pairs.starmap(|a, b| (a, b, "x".to_string())).starmap(|a, b, x| format!("{a}{x}{b}"));
    assert_eq!(triples.compute(client).unwrap(), ["1x2", "3x4"]);

    let left = Bag::range(0..7, 3);
    let right = left.map(|x| x.to_string());
    let zipped = left.zip(&right).unwrap();
    assert_eq!(zipped.compute(client).unwrap(), (0..7).map(|x| (x, x.to_string())).collect::<Vec<_>>());
    assert!(matches!(left.zip(&Bag::range(0..7, 2)), Err(Error::Invalid { .. })));
    let uneven = left.zip(&left.filter(|x| *x != 1)).unwrap().compute(client).unwrap_err();
    let expected = BagError::Uneven { shorter: "right".to_string() };
    assert_eq!(uneven.task().unwrap().downcast::<BagError>(), Some(expected));
    assert!(uneven.to_string().contains("(in partition 0)"), "{uneven}");

    assert_eq!(
        words().enumerate().map(|(i, w)| format!("{i}{w}")).compute(client).unwrap()[3..],
        ["3cherry", "4banana"]
    );
}

pub fn parts_by_key(client: &Client) {
    let lines = ["{\"name\": \"Ada\", \"langs\": [\"en\", \"fr\"]}", "{\"name\": \"Alan\"}"].map(String::from);
    let people = Bag::from_sequence(lines, 2).try_map(|line| line.parse::<Json>());
    assert_eq!(people.pluck("name").compute(client).unwrap(), [Json::from("Ada"), Json::from("Alan")]);
    let second = people.pluck_or("langs", Json::from(vec!["", "?"])).pluck(&1);
    assert_eq!(second.compute(client).unwrap(), [Json::from("fr"), Json::from("?")]);
    let error = people.pluck("langs").compute(client).unwrap_err();
    let expected = BagError::NoSuchKey { key: "\"langs\"".to_string() };
    assert_eq!(error.task().unwrap().downcast::<BagError>(), Some(expected));
    // As they are, they cross processes too.
    let kept = people.persist(client).unwrap();
    assert_eq!(kept.compute(client).unwrap(), people.compute(client).unwrap());

    let maps = Bag::from_sequence([HashMap::from([(1, 'a'), (2, 'b')]), HashMap::from([(1, 'c')])], 1);
    assert_eq!(maps.pluck(&1).compute(client).unwrap(), ['a', 'c']);
    assert_eq!(maps.pluck_or(&2, '-').compute(client).unwrap(), ['b', '-']);
    let trees = Bag::from_sequence([BTreeMap::from([("k".to_string(), 1.5)])], 1);
    assert_eq!(trees.pluck("k").compute(client).unwrap(), [1.5]);
    let lists = Bag::from_sequence([vec![1, 2], vec![3, 4]], 1);
    assert_eq!(lists.pluck(&1).compute(client).unwrap(), [2, 4]);
}

pub fn samples(client: &Client) {
    let bag = Bag::range(0..10_000, 7);
    let sample = bag.random_sample(0.2, 1).unwrap().compute(client).unwrap();
    assert!((1700..2300).contains(&sample.len()), "{}", sample.len());
    assert!(sample.is_sorted());
    assert_eq!(bag.random_sample(0.2, 1).unwrap().compute(client).unwrap(), sample);
    assert_ne!(bag.random_sample(0.2, 2).unwrap().compute(client).unwrap(), sample);
    assert_ne!(bag.random_sample(0.2, None).unwrap().compute(client).unwrap(), sample);
    assert_eq!(bag.random_sample(0.0, 1).unwrap().count().compute(client).unwrap(), 0);
    assert_eq!(bag.random_sample(1.0, 1).unwrap().count().compute(client).unwrap(), 10_000);
    for bad in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(bag.random_sample(bad, 1), Err(Error::Invalid { .. })));
    }
}

pub fn running_results(client: &Client) {
    for n in [1, 2, 5] {
        let bag = Bag::from_sequence(1..=5, n);
        assert_eq!(bag.accumulate(|a, x| a + x).compute(client).unwrap(), [1, 3, 6, 10, 15]);
        assert_eq!(bag.accumulate_from(-1, |a, x| a + x).compute(client).unwrap(), [-1, 0, 2, 5, 9, 14]);
        let texts = bag.accumulate_from(String::new(), |a, x| format!("{a}{x}"));
        assert_eq!(texts.compute(client).unwrap().last().unwrap(), "12345");
    }
    let holes = Bag::from_partitions([vec![], vec![1], vec![], vec![2, 3]]);
    assert_eq!(holes.accumulate(|a, x| a * 10 + x).compute(client).unwrap(), [1, 12, 123]);
    assert_eq!(Bag::<i32>::from_partitions([]).accumulate_from(7, |a, x| a + x).compute(client).unwrap(), [7]);
}

pub fn several_bags(client: &Client) {
    let all = Bag::concat([Bag::range(0..3, 2), Bag::range(7..9, 1), Bag::range(0..0, 1)]);
    assert_eq!((all.npartitions(), all.compute(client).unwrap()), (4, vec![0, 1, 2, 7, 8]));
    assert!(Bag::<u8>::concat([]).compute(client).unwrap().is_empty());

    let pairs = Bag::range(0..3, 2).product(&words().filter(|w| w.starts_with('a')));
    assert_eq!(pairs.npartitions(), 6);
    let mut pairs = pairs.compute(client).unwrap();
    pairs.sort();
    let expected: Vec<_> = (0..3).flat_map(|i| ["apple", "avocado"].map(|w| (i, w.to_string()))).collect();
    assert_eq!(pairs, expected);

    let colours = vec![('a', "green".to_string()), ('b', "yellow".to_string()), ('a', "brown".to_string())];
    let initial = |w: &String| w.chars().next().unwrap();
    let joined =
        words().join(value(colours), initial, |(letter, _)| *letter).starmap(|(_, colour), w| format!("{colour} {w}"));
    let expected = ["green apple", "brown apple", "yellow bean", "green avocado", "brown avocado", "yellow banana"];
    assert_eq!(joined.compute(client).unwrap(), expected);
}

pub fn partitions_by_number(client: &Client) {
    let bag = Bag::range(0..103, 10);
    for n in [1, 3, 9, 10, 11, 25, 200] {
        let again = bag.repartition(n);
        assert_eq!(again.npartitions(), n);
        assert_eq!(again.compute(client).unwrap(), (0..103).collect::<Vec<_>>());
        if n <= 25 {
            let sizes = again.map_partitions(|e| [e.count()]).compute(client).unwrap();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 103 / n, "{sizes:?}");
        }
    }
    assert_eq!(bag.repartition(0).npartitions(), 1);
}

pub fn partitions_by_size(client: &Client) {
    let bag = Bag::generate(|n: usize| vec!["x".repeat(99); n], [100, 1, 1, 1, 0, 1000]);
    let even = bag.repartition_by_size(client, 10_000).unwrap();
    assert_eq!(even.count().compute(client).unwrap(), 1103);
    let sizes = even.map_partitions(|e| [e.count()]).compute(client).unwrap();
    // A string takes its text and a little more.
    assert!(sizes.iter().all(|n| (1..=100).contains(n)) && sizes.len() < 20, "{sizes:?}");
    let texts = even.compute(client).unwrap();
    assert!(texts.iter().all(|text| text.len() == 99));
    assert!(matches!(bag.repartition_by_size(client, 0), Err(Error::Invalid { .. })));
}
