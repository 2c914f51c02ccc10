//~ unused `swath::Future` that must be used
//~ a task is cancelled when the last handle of its result is dropped
#![deny(unused_must_use)]
use swath::{Client, delayed};

fn main() -> swath::Result<()> {
    let client = Client::sync();
    let x = delayed(|x: i64| x + 1).call(1);
    client.submit(&x)?;
    Ok(())
}
