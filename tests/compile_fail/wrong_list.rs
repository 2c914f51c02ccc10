//~ cannot be passed where the task takes
//~ Delayed<String>
use swath::delayed;

fn name(n: i64) -> String {
    n.to_string()
}

fn total(values: Vec<i64>) -> i64 {
    values.into_iter().sum()
}

fn main() {
    let names = vec![delayed(name).call(1), delayed(name).call(2)];
    let _ = delayed(total).call(names);
}
