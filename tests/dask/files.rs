//! Files against what pandas and `dask.bag` read: rows and errors, at block sizes of all kinds.

use super::python::{ask, clean};
use crate::common::{directory, path};
use serde_json::{Value, json};
use std::fs;
use swath::bag::{Csv, Json};
use swath::files::Files;
use swath::{Bag, Client};

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.next(from.len())]
    }
}

const FIELDS: [&str; 9] = ["a", "öl", "x,y", "two\nlines", "a\r\n\n\nb", "say \"x\"", "\"", "", "1.50"];

/// CSV of three columns, with `\n` or `\r\n` behind its records; in some the last one has no end.
fn csv(dice: &mut Dice) -> String {
    let end = dice.pick(&["\n", "\r\n"]);
    let mut text = format!("a,\"b\nb\",c{end}");
    for _ in 0..dice.next(12) {
        let mut field = |_| {
            let field = dice.pick(&FIELDS);
            let is_plain = !field.contains(['"', ',', '\n', '\r']) && dice.next(2) == 0;
            if is_plain { field.to_string() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
        };
        // A line of empty fields alone is one, not a blank line.
        text += &[0, 1, 2].map(&mut field).join(",");
        text += end;
    }
    match dice.next(5) {
        0 => text + "x,y,\"open" + end + "1,2,3" + end,
        1 => text + "x,y,z",
        _ => text,
    }
}

fn sizes(len: usize) -> Vec<u64> {
    [1, 2, 3, 5, 8, 13, 34, 89].into_iter().filter(|n| *n < len as u64).chain([len as u64]).collect()
}

fn differ(what: &str, text: &str, theirs: &Value, ours: Result<Value, swath::Error>) {
    match (theirs.get("value"), ours) {
        (Some(theirs), Ok(ours)) => assert_eq!(&ours, theirs, "{what} {text:?}"),
        (None, Err(_)) => {}
        (_, ours) => panic!("{what} {text:?}:\n    theirs {theirs}\n    ours {ours:?}"),
    }
}

#[test]
fn files_are_read_as_pandas_and_dask_read_them() {
    let (dir, client, mut dice) = (directory(), Client::sync(), Dice(7));
    let keep = |name: String, bytes: &[u8]| {
        let file = path(&dir, &name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let tables: Vec<(String, String)> = (0..40)
        .map(|_| csv(&mut dice))
        .enumerate()
        .map(|(i, text)| (keep(format!("{i}.csv"), text.as_bytes()), text))
        .collect();
    let delimiters = ["\n", ";", "|x", "öl"];
    let texts: Vec<(String, String, &str, &str)> = (0..40)
        .map(|i| {
            let delimiter = delimiters[i % delimiters.len()];
            let encoding = ["utf-8", "latin-1"][i / 4 % 2];
            let count = 1 + dice.next(20);
            let text: String = (0..count).map(|_| dice.pick(&["a", "ö", ";", "\n", "|", "x", "|x", "öl"])).collect();
            let bytes = if encoding == "utf-8" { text.clone().into() } else { text.chars().map(|c| c as u8).collect() };
            let bytes: Vec<u8> = bytes;
            (keep(format!("{i}.txt"), &bytes), text, encoding, delimiter)
        })
        .collect();
    let lines = ["{\"a\": [1, null]}\n2.5\n\"\\u00f6\"\n", "[1,\n2]\n", "1\n2", "{\"a\": 1}}\n", "\"a\nb\"\n"];
    let lines: Vec<_> = (0..).zip(lines).map(|(i, text)| (keep(format!("{i}.jsonl"), text.as_bytes()), text)).collect();
    let asked = json!({
        "csv": tables.iter().map(|(file, _)| file).collect::<Vec<_>>(),
        // Whole files: where Dask cuts them it takes delimiters that span a cut for text.
        "text": texts.iter().map(|(file, _, encoding, end)| json!([file, encoding, end, null])).collect::<Vec<_>>(),
        "lines": lines.iter().map(|(file, _)| file).collect::<Vec<_>>(),
    });
    let _clean = clean();
    let theirs = ask("files.py", &asked);
    for ((file, text), theirs) in tables.iter().zip(theirs["csv"].as_array().unwrap()) {
        for blocksize in sizes(text.len()) {
            let bag = Bag::<Vec<String>>::read_csv(Files::new(file).blocksize(blocksize), Csv::new()).unwrap();
            differ("csv", text, theirs, bag.compute(&client).map(|rows| json!(rows)));
        }
    }
    for ((file, text, encoding, end), theirs) in texts.iter().zip(theirs["text"].as_array().unwrap()) {
        let mut theirs = theirs.clone();
        let found = theirs["value"].as_array_mut().unwrap();
        if *end != "\n" && text.ends_with(end) {
            // Behind the last delimiter Dask finds an empty line.
            assert_eq!(found.pop(), Some(json!("")), "Dask does no longer, so docs/DASK.md is wrong");
        }
        for blocksize in sizes(text.chars().count()) {
            let files = Files::new(file).encoding(*encoding).delimiter(*end).keep_line_ends().blocksize(blocksize);
            differ("text", text, &theirs, Bag::read_text(files).unwrap().compute(&client).map(|rows| json!(rows)));
        }
    }
    for ((file, text), theirs) in lines.iter().zip(theirs["lines"].as_array().unwrap()) {
        for blocksize in sizes(text.len()) {
            let bag = Bag::<Json>::read_json(Files::new(file).blocksize(blocksize)).unwrap();
            differ("lines", text, theirs, bag.compute(&client).map(|rows| json!(rows)));
        }
    }
}
