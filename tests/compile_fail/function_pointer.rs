// A pointer is a value, too: which function it means is known only when the program runs.
//~ must not capture
use swath::delayed;

fn inc(x: i64) -> i64 {
    x + 1
}

fn main() {
    let chosen: fn(i64) -> i64 = inc;
    let _ = delayed(chosen).call(1);
}
