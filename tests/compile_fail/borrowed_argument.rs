//~ `&str` cannot cross
use swath::delayed;

fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let _ = delayed(length).call("four".to_string());
}
