//! Order without data, and copies of graphs.

use crate::common::{directory, is_sync, note, notes, path, touch, wait_for_file};
use std::collections::BTreeMap;
use swath::collection::{bind, checkpoint, clone_graph, wait_on};
use swath::delayed::value;
use swath::{Bag, Client, Delayed, delayed, try_delayed};

/// Writes down that it has run.
fn noted(file: String, name: String) -> String {
    note(&file, &name);
    name
}

fn step(file: &str, name: impl std::fmt::Display) -> Delayed<String> {
    delayed(noted).call(file, name.to_string())
}

/// How often each has run; the last note of `first` stands before the first one of `then`.
fn ran_in_order(file: &str, first: char, then: char) -> BTreeMap<String, usize> {
    let all = notes(file);
    let last = all.iter().rposition(|note| note.starts_with(first)).unwrap();
    let next = all.iter().position(|note| note.starts_with(then)).unwrap();
    assert!(last < next, "{all:?}");
    all.into_iter().fold(BTreeMap::new(), |mut counts, note| {
        *counts.entry(note).or_default() += 1;
        counts
    })
}

pub fn children_run_behind_their_parents(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let parents: Vec<_> = (0..20).map(|i| step(&file, format!("p{i}"))).collect();
    // Each child is two tasks, of which the first needs nothing.
    let twice = |text: Delayed<String>| text.map(|text: String| text.repeat(2));
    let children: Vec<_> = (0..20).map(|i| twice(step(&file, format!("c{i}")))).collect();
    let bound = bind(&children, &parents).unwrap();
    let (children, parents) = client.compute((&bound, &parents)).unwrap();
    assert_eq!((children[7].as_str(), parents[3].as_str()), ("c7c7", "p3"));
    let counts = ran_in_order(&file, 'p', 'c');
    assert_eq!(counts.len(), 40);
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    // Without the parents among what is computed, they run all the same.
    let file = path(&dir, "others");
    let (first, second) = (step(&file, "a"), step(&file, "b"));
    assert_eq!(bind(&first, &second).unwrap().compute(client).unwrap(), "a");
    assert_eq!(notes(&file), ["b", "a"]);
    // Several kinds at once; the structure is kept.
    let file = path(&dir, "kinds");
    let bag = Bag::range(0..8, 4).map_with(
        |x, file: &String| {
            note(file, format!("c{x}"));
            x + 1
        },
        file.clone(),
    );
    let (number, bag) = bind((&step(&file, "c"), &bag), [step(&file, "p"), step(&file, "p")]).unwrap();
    assert_eq!(bag.npartitions(), 4);
    assert_eq!(client.compute((&bag.sum(), &number)).unwrap(), (36, "c".to_string()));
    assert_eq!(ran_in_order(&file, 'p', 'c')["p"], 2);
}

/// Where parents need the children there is no circle: what is bound are other tasks.
pub fn what_is_bound_to_itself_runs_twice(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let x = step(&file, "x");
    let y = x.map(|text: String| format!("{text}y"));
    let bound = bind(&x, &y).unwrap();
    assert_eq!(client.compute((&bound, &y, &x)).unwrap(), ("x".into(), "xy".into(), "x".into()));
    assert_eq!(notes(&file), ["x", "x"]);
    assert_eq!(bind(&x, &x).unwrap().compute(client).unwrap(), "x");
    let both = bind(&x, bind(&y, &x).unwrap()).unwrap();
    assert_eq!(both.compute(client).unwrap(), "x");
    assert_eq!(notes(&file).len(), 7);
    // The same pure calls behind the same are one.
    let file = path(&dir, "pure");
    let pure = || delayed(noted).pure().call(&*file, "c");
    let parent = step(&file, "p");
    let (a, b) = (bind(&pure(), &parent).unwrap(), bind(&pure(), &parent).unwrap());
    assert_eq!(a.key(), b.key());
    assert_ne!(a.key(), pure().key());
    client.compute((&a, &b)).unwrap();
    assert_eq!(notes(&file), ["p", "c"]);
    // Nothing to wait for.
    assert_eq!(bind(&x, Vec::<Delayed<u8>>::new()).unwrap().compute(client).unwrap(), "x");
}

pub fn values_that_are_there_wait_too(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let kept = client.persist(&delayed(|| vec![1, 2, 3]).call()).unwrap();
    let future = client.submit(&delayed(|| 4).call()).unwrap();
    let parent = step(&file, "p");
    let (list, four, five) = bind((&kept, &future, &value(5)), &parent).unwrap();
    let then = |list: Vec<i32>, file: String| {
        note(&file, "c");
        list.len()
    };
    let n = delayed(then).call(&list, &*file);
    assert_eq!(client.compute((&n, &four, &five, &list)).unwrap(), (3, 4, 5, vec![1, 2, 3]));
    assert_eq!(notes(&file), ["p", "c"]);
    // What is made of a held result is bound by its first own task.
    let file = path(&dir, "made");
    let made = delayed(then).call(&kept, &*file);
    assert_eq!(bind(&made, step(&file, "p")).unwrap().compute(client).unwrap(), 3);
    assert_eq!(notes(&file), ["p", "c"]);
    // Parts of a result, lists and long chains.
    let (a, b) = delayed(|file: String| {
        note(&file, "c");
        (1, "x".to_string())
    })
    .call(&*path(&dir, "parts"))
    .unpack();
    let (a, b) = bind((&a, &b), step(&path(&dir, "parts"), "p")).unwrap();
    assert_eq!(client.compute((&a, &b)).unwrap(), (1, "x".to_string()));
    assert_eq!(notes(&path(&dir, "parts")), ["p", "c"]);
    let sum = delayed(|xs: Vec<i64>| xs.into_iter().sum::<i64>()).call(delayed(|x: i64| x).map(0..5));
    let mut long = bind(&sum, &parent).unwrap();
    for _ in 0..if is_sync(client) { 100_000 } else { 10_000 } {
        long = delayed(|x: i64| x + 1).call(long);
    }
    let long = bind(&long, &parent).unwrap();
    assert!(long.compute(client).unwrap() > 10_000);
}

pub fn all_are_waited_for(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let first: Vec<_> = (0..30).map(|i| step(&file, format!("a{i}"))).collect();
    let waited = wait_on(&first).unwrap();
    let then = delayed(|text: String, file: String| {
        note(&file, format!("b{text}"));
        text.len()
    });
    let lengths: Vec<_> = waited.iter().map(|text| then.call(text, &*file)).collect();
    assert_eq!(client.compute(&lengths).unwrap().iter().sum::<usize>(), 80);
    let counts = ran_in_order(&file, 'a', 'b');
    assert!(counts.len() == 60 && counts.values().all(|n| *n == 1), "{counts:?}");
    // They are the same tasks.
    let shared = client.compute((&wait_on(&first[0]).unwrap(), &first[0])).unwrap();
    assert_eq!(shared, ("a0".to_string(), "a0".to_string()));
    assert_eq!(notes(&file).len(), 61);
    // A large value, not copied in this process, and a bag.
    let list = delayed(|| vec![7_u8; 1 << 20]).call();
    let n = wait_on((&list, &Bag::range(0..10, 3))).unwrap();
    assert_eq!(client.compute((&n.0.map(|list: Vec<u8>| list.len()), &n.1)).unwrap(), (1 << 20, (0..10).collect()));
}

pub fn a_checkpoint_is_passed_when_all_have_run(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let bag = Bag::range(0..20, 7).map_with(
        |x, file: &String| {
            note(file, "a");
            x
        },
        file.clone(),
    );
    client.compute(&checkpoint((&bag, &step(&file, "a"))).unwrap()).unwrap();
    assert_eq!(notes(&file).len(), 21);
    client.compute(&checkpoint(Vec::<Delayed<u8>>::new()).unwrap()).unwrap();
    // It can be a parent, and is not passed before.
    if !is_sync(client) {
        let (go, file) = (path(&dir, "go"), path(&dir, "gated"));
        let gate = delayed(|go: String, file: String| {
            assert!(wait_for_file(&go));
            note(&file, "p")
        })
        .call(&*go, &*file);
        let child = client.submit(&bind(&step(&file, "c"), checkpoint(&gate).unwrap()).unwrap()).unwrap();
        assert!(child.result_timeout(std::time::Duration::from_millis(20)).is_err());
        touch(&go);
        child.result().unwrap();
        assert_eq!(notes(&file), ["p", "c"]);
    }
}

pub fn who_waits_fails_with_what_is_waited_for(client: &Client) {
    let dir = directory();
    let bad = try_delayed(|x: i64| Err::<i64, String>(format!("no {x}"))).call(3);
    let file = path(&dir, "notes");
    let errors = [
        bind(&step(&file, "c"), &bad).unwrap().compute(client).unwrap_err(),
        checkpoint((&bad, &value(1))).unwrap().compute(client).unwrap_err(),
        wait_on((&value(1_i64), &bad)).unwrap().0.compute(client).unwrap_err(),
        clone_graph(&bad).unwrap().compute(client).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "no 3");
    }
    assert!(notes(&file).is_empty());
}

pub fn copies_are_tasks_of_their_own(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let one = delayed(noted).pure().call(&*file, "a");
    let len = delayed(|text: String| text.len()).pure().call(&one);
    let other = clone_graph(&len).unwrap();
    assert_ne!(other.key(), len.key());
    assert_ne!(clone_graph(&len).unwrap().key(), other.key());
    assert_eq!(client.compute((&len, &other)).unwrap(), (1, 1));
    assert_eq!(notes(&file), ["a", "a"]);
    // What the copies share among them is shared.
    let (x, y) = clone_graph((&one, &len)).unwrap();
    client.compute((&x, &y)).unwrap();
    assert_eq!(notes(&file).len(), 3);
    // What is held is not made again.
    let kept = client.persist(&one).unwrap();
    let len = kept.map(|text: String| text.len());
    assert_eq!(
        client.compute((&clone_graph(&kept).unwrap(), &clone_graph(&len).unwrap())).unwrap(),
        ("a".to_string(), 1)
    );
    assert_eq!(notes(&file).len(), 4);
    let bag = Bag::range(0..6, 2).map_with(
        |x, file: &String| {
            note(file, x);
            x
        },
        path(&dir, "bag"),
    );
    assert_eq!(client.compute((&bag, &clone_graph(&bag).unwrap().sum())).unwrap(), ((0..6).collect(), 15));
    assert_eq!(notes(&path(&dir, "bag")).len(), 12);
}
