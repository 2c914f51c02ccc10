//~ `std::io::Error` cannot cross from one process to another
use swath::try_delayed;

fn main() {
    let _ = try_delayed(|path: String| std::fs::read(path)).keep_error().call("a.txt");
}
