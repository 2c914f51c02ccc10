//~ expected `String`, found `i64`
use swath::{Client, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _: String = delayed(inc).call(1).compute(&Client::sync())?;
    Ok(())
}
