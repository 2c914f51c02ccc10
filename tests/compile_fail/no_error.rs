//~ `Trouble` cannot be the error of a task function
//~ implement `std::error::Error` for the type, or make it a text with `.map_err(|e| e.to_string())`
use swath::try_delayed;

#[derive(Debug)]
struct Trouble;

fn parse(s: String) -> Result<i64, Trouble> {
    s.parse().map_err(|_| Trouble)
}

fn main() {
    let _ = try_delayed(parse).call("1");
}
