//~ `Point` cannot cross
//~ Serialize
use swath::delayed;

struct Point {
    _x: f64,
}

fn point(x: f64) -> Point {
    Point { _x: x }
}

fn main() {
    let _ = delayed(point).call(1.0);
}
