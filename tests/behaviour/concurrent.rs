//! One client, many threads.

use swath::{Client, Delayed, delayed, try_delayed};

pub fn many_threads_one_client(client: &Client) {
    std::thread::scope(|scope| {
        for t in 0..64_i64 {
            scope.spawn(move || {
                for g in 0..20 {
                    let xs = delayed(|x: i64| x + 1).map(t..t + 10);
                    let sum: Delayed<i64> = xs.iter().sum();
                    let wanted: i64 = (t..t + 10).map(|x| x + 1).sum();
                    match g % 4 {
                        0 => assert_eq!(sum.compute(client).unwrap(), wanted),
                        1 => assert_eq!(client.submit(&sum).unwrap().result().unwrap(), wanted),
                        2 => {
                            let kept = client.persist(&xs).unwrap();
                            assert_eq!(kept.iter().sum::<Delayed<i64>>().compute(client).unwrap(), wanted);
                        }
                        _ => {
                            let bad = try_delayed(|x: i64| Err::<i64, _>(format!("no {x}"))).call(&sum);
                            let error = bad.compute(client).unwrap_err();
                            assert_eq!(error.task().unwrap().downcast::<String>(), Some(format!("no {wanted}")));
                            assert_eq!(error.task().unwrap().key(), bad.key());
                        }
                    }
                }
            });
        }
    });
}

pub fn clones_and_drops(client: &Client) {
    let handles: Vec<_> = (0..8_i64)
        .map(|i| {
            let client = client.clone();
            std::thread::spawn(move || {
                // Handles of work that nobody waits for go while it runs.
                let dropped = client.map(|x: i64| x, 0..200_i64).unwrap();
                drop(dropped);
                let future = client.submit(&delayed(|x: i64| x * 3).call(i)).unwrap();
                drop(client);
                future
            })
        })
        .collect();
    for (i, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().unwrap().result().unwrap(), i * 3);
    }
}
