//~ must not capture
//~ `map_with`
//~ bag_capturing_closure.rs:8
use swath::{Bag, Client};

fn main() {
    let n = std::env::args().count() as i64;
    let _ = Bag::range(0..10, 2).map(move |x| x + n).compute(&Client::sync());
}
