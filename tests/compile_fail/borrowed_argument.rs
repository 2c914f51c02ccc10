//~ cannot be passed where the task takes `&str`
//~ a task function owns its arguments
use swath::delayed;

fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let _ = delayed(length).call("four".to_string());
}
