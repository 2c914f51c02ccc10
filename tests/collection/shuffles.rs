//! Elements with one key in one chunk.

use super::numbers::Numbers;
use swath::Client;
use swath::collection::{Input, Layer, Shuffle, Shuffled, partition_of};

pub fn by_remainder(client: &Client) {
    let x = Numbers::ramp(1000);
    for (divisor, n) in [(7, 3), (1, 5), (100, 1)] {
        let chunks = client.compute(&x.by_remainder(divisor, n)).unwrap();
        assert_eq!(chunks.len(), n);
        for (i, chunk) in chunks.iter().enumerate() {
            // In the order of the chunks that they come from.
            let expected = (0..1000).filter(|x| partition_of(&(x % divisor), n) == i);
            assert_eq!(*chunk, expected.collect::<Vec<i64>>());
        }
    }
    let kept = client.persist(&x.by_remainder(7, 3)).unwrap();
    assert_eq!(client.compute(&kept).unwrap().concat().len(), 1000);
}

pub fn with_errors(client: &Client) {
    let shuffle = Shuffle::<i64>::by_key(&Numbers::ramp(10).whole(), 2, |x| 10 / (x - 5));
    let all = Layer::over((Input::shuffled(&shuffle),)).elements(|all: Shuffled<i64>| all);
    let error = client.compute(&all).unwrap_err();
    assert!(error.to_string().contains("divide by zero (at element 1 of chunk 1)"), "{error}");
    let wrong = Numbers::ramp(8).add(&Numbers::ramp(9)).by_remainder(3, 2);
    assert_eq!(client.compute(&wrong).unwrap_err().to_string(), "8 numbers and 9 cannot be added");
}
