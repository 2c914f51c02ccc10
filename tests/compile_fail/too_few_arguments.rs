//~ takes 2 arguments but 1 argument was supplied
//~ argument #2
use swath::delayed;

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn main() {
    let _ = delayed(add).call(1);
}
