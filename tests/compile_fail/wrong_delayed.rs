//~ cannot be passed where the task takes `String`
//~ Delayed<i64>
use swath::delayed;

fn inc(x: i64) -> i64 {
    x + 1
}

fn shout(text: String) -> String {
    text.to_uppercase()
}

fn main() {
    let x = delayed(inc).call(1);
    let _ = delayed(shout).call(&x);
}
