//~ takes 1 argument but 2 arguments were supplied
use swath::delayed;

fn inc(x: i64) -> i64 {
    x + 1
}

fn main() {
    let _ = delayed(inc).call(1, 2);
}
