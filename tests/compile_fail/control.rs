// Compiles: what the other programs get wrong, done right.
use swath::{Client, delayed, try_delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn total(values: Vec<i64>) -> i64 {
    values.into_iter().sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::sync();
    let x = delayed(inc).call(10);
    let z = delayed(add).call(&x, 1);
    let tripled = delayed(|v: i64| v * 3).call(&z);
    let sum = delayed(total).call(vec![x, tripled]);
    let _: i64 = sum.compute(&client)?;
    let _ = try_delayed(|s: String| s.parse::<i64>()).call("1");
    let _ = try_delayed(|path: String| std::fs::read(path)).call("a.txt");
    Ok(())
}
