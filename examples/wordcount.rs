//! The most frequent words of some texts, counted twice: as it is written down first, and as it is fastest.
//!
//! ```text
//! cargo run --release --example wordcount                        # of the texts of this project
//! cargo run --release --example wordcount -- 'books/*.txt.gz' other.txt
//! ```
//!
//! The mode is that of `SWATH_SCHEDULER`, by default `processes`. Try `SWATH_SCHEDULER=sync` to debug it.

#[path = "support/mod.rs"]
mod support;

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Instant;
use support::Look;
use swath::Bag;
use swath::bag::Counter;
use swath::client::Builder;
use swath::files::Files;

/// Words without what stands around them, in small letters.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// For each word a `String` of its own goes through the bag.
fn as_it_comes(lines: &Bag<String>) -> Bag<(String, usize)> {
    lines.flat_map(|line| words(&line).collect::<Vec<_>>()).frequencies().topk_by_key(10, |(_, n)| *n)
}

/// A task has one counter, and copies a word when it is met for the first time.
fn count(mut counter: Counter<String>, line: String) -> Counter<String> {
    let mut small = String::new();
    for word in line.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()) {
        if word.chars().any(char::is_uppercase) {
            small.clear();
            small.extend(word.chars().flat_map(char::to_lowercase));
            counter.add(small.as_str());
        } else {
            counter.add(word);
        }
    }
    counter
}

fn main() -> Result<(), Box<dyn Error>> {
    let (look, arguments) = Look::from_args()?;
    let mut paths: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if paths.is_empty() {
        let here = env!("CARGO_MANIFEST_DIR");
        paths = ["README.md", "ARCHITECTURE.md", "LICENSE-APACHE"].map(|name| format!("{here}/{name}")).to_vec();
    }
    let client = look.client(Builder::from_env()?)?;
    let _report = look.report(&client);
    // Large files are split, so that several workers read each.
    let lines = Bag::read_text(Files::new(paths).blocksize(8 << 20))?;

    look.draw(&as_it_comes(&lines))?;
    let start = Instant::now();
    let plain = as_it_comes(&lines).compute(&client)?;
    let (plain_took, start) = (start.elapsed(), Instant::now());
    let counter = lines.fold(Counter::new(), count, Counter::merge).compute(&client)?;
    let counter_took = start.elapsed();

    let most_common = counter.most_common(10);
    if plain != most_common {
        return Err("the two ways to count do not agree".into());
    }
    let mut out = stdout().lock();
    writeln!(out, "{client}\n{} different words in {} partitions", counter.len(), lines.npartitions())?;
    for (word, n) in most_common {
        writeln!(out, "{n:>10}  {word}")?;
    }
    writeln!(out, "as strings: {plain_took:.1?}; in a counter: {counter_took:.1?}")?;
    Ok(())
}
