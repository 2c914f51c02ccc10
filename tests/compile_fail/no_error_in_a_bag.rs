//~ `i64` cannot be the error of a task function
use swath::Bag;

fn main() {
    let _ = Bag::range(0..4, 2).try_map(|x| if x == 3 { Err(x) } else { Ok(x) });
}
