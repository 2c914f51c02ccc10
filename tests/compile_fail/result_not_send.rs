//~ `Rc<i64>` cannot cross
use std::rc::Rc;
use swath::delayed;

fn shared(x: i64) -> Rc<i64> {
    Rc::new(x)
}

fn main() {
    let _ = delayed(shared).call(1);
}
