//~ `{float}` cannot be passed where the task takes `i64`
//~ wrong_value.rs:10
use swath::delayed;

fn inc(x: i64) -> i64 {
    x + 1
}

fn main() {
    let _ = delayed(inc).call(1.5);
}
