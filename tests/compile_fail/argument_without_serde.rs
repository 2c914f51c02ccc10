//~ `Point` cannot cross
use swath::delayed;

struct Point {
    x: f64,
}

fn abscissa(p: Point) -> f64 {
    p.x
}

fn main() {
    let _ = delayed(abscissa).call(Point { x: 1.0 });
}
