//~ must not capture
//~ as arguments
//~ capturing_closure.rs:8
use swath::delayed;

fn main() {
    let n = std::env::args().count() as i64;
    let _ = delayed(move |x: i64| x + n).call(1);
}
