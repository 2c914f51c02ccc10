//~ unused `Delayed` that must be used
//~ unused `Bag` that must be used
//~ unused `swath::Builder` that must be used
//~ unused return value of `TaskError::key` that must be used
#![deny(unused_must_use)]
use swath::error::TaskError;
use swath::{Bag, Client, delayed};

fn key_of(error: &TaskError) {
    error.key();
}

fn main() {
    delayed(|x: i64| x + 1).call(1);
    Bag::range(0..4, 2).map(|x| x + 1);
    Client::builder().workers(2);
    let _ = key_of;
}
