//! What good files give.

use crate::common::{directory, path};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use swath::bag::{Csv, Json};
use swath::files::{Compression, FileError, Files, Lines, Output};
use swath::{Bag, Client};

fn text(dir: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> String {
    let file = path(dir, name);
    fs::write(&file, text).unwrap();
    file
}

pub fn files_in_order(client: &Client) {
    let dir = directory();
    for i in (0..12).rev() {
        text(&dir, &format!("{i:02}.txt"), format!("{i} a\r\n{i} b\n\n{i} c"));
    }
    let lines = Bag::read_text(path(&dir, "*.txt")).unwrap();
    assert_eq!(lines.npartitions(), 12);
    let wanted: Vec<_> =
        (0..12).flat_map(|i| [format!("{i} a"), format!("{i} b"), String::new(), format!("{i} c")]).collect();
    assert_eq!(lines.compute(client).unwrap(), wanted);
    let some = Bag::read_text([path(&dir, "07.txt"), path(&dir, "0[12].txt")]).unwrap();
    let firsts = some.filter(|l| l.ends_with('a')).compute(client).unwrap();
    assert_eq!(firsts, ["7 a", "1 a", "2 a"]);
    let kept = Bag::read_text(Files::new(path(&dir, "03.txt")).keep_line_ends()).unwrap();
    assert_eq!(kept.compute(client).unwrap(), ["3 a\r\n", "3 b\n", "\n", "3 c"]);
}

pub fn blocks(client: &Client) {
    let dir = directory();
    let wanted: Vec<_> = (0..10_000).map(|i| format!("line number {i}")).collect();
    let file = text(&dir, "a.txt", wanted.join("\n"));
    text(&dir, "b.txt", "and another\n");
    let lines = Bag::read_text(Files::new(path(&dir, "?.txt")).blocksize(20_000)).unwrap();
    assert_eq!(lines.npartitions(), fs::metadata(&file).unwrap().len().div_ceil(20_000) as usize + 1);
    let got = lines.compute(client).unwrap();
    assert_eq!(got[..10_000], wanted);
    assert_eq!(got[10_000..], ["and another"]);
    let sizes = client.compute(&lines.map_partitions(|l| [l.count()])).unwrap();
    assert!(sizes[..sizes.len() - 1].iter().all(|&n| n > 800), "{sizes:?}");
}

pub fn several_files_for_a_task(client: &Client) {
    let dir = directory();
    for i in 0..7 {
        text(&dir, &format!("{i}.txt"), format!("{i}\n"));
    }
    let lines = Bag::read_text(Files::new(path(&dir, "*.txt")).files_per_partition(3)).unwrap();
    assert_eq!(client.compute(&lines.map_partitions(|l| [l.count()])).unwrap(), [3, 3, 1]);
    assert_eq!(lines.compute(client).unwrap(), ["0", "1", "2", "3", "4", "5", "6"]);
}

pub fn compressed_files(client: &Client) {
    let dir = directory();
    let lines: Vec<_> = (0..30_000).map(|i| format!("{i} {}", i * i % 977)).collect();
    for (extension, compression) in [
        ("gz", Compression::Gzip),
        ("zst", Compression::Zstd),
        ("bz2", Compression::Bzip2),
        ("xz", Compression::Xz),
        ("txt", Compression::None),
    ] {
        let file = path(&dir, &format!("lines.{extension}"));
        let output = &Output::new([&*file]).files(1).unwrap()[0];
        assert_eq!(output.compression(), compression);
        output.write(|to| lines.iter().try_for_each(|line| writeln!(to, "{line}"))).unwrap();
        if compression != Compression::None {
            assert!(fs::metadata(&file).unwrap().len() < 150_000, "{compression}");
        }
        let read = Bag::read_text(&file).unwrap();
        assert_eq!(read.compute(client).unwrap(), lines, "{compression}");
        // The name says nothing, so it has to be said.
        let other = path(&dir, "other");
        fs::copy(&file, &other).unwrap();
        let read = Bag::read_text(Files::new(&other).compression(compression)).unwrap();
        assert_eq!(read.count().compute(client).unwrap(), lines.len(), "{compression}");
    }
    // Files that were put together.
    let mut twice = fs::read(path(&dir, "lines.gz")).unwrap();
    twice.extend_from_within(..);
    let twice = text(&dir, "twice.gz", twice);
    assert_eq!(Bag::read_text(twice).unwrap().count().compute(client).unwrap(), 2 * lines.len());
}

pub fn encodings(client: &Client) {
    let dir = directory();
    let wanted = ["grün", "", "öl\u{a0}und", "ende"];
    let joined = wanted.join("\r\n");
    let latin: Vec<u8> = joined.chars().map(|c| c as u8).collect();
    let little: Vec<u8> = joined.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "\u{feff}".encode_utf16().chain(joined.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    let marked = format!("\u{feff}{joined}");
    for (encoding, bytes) in [
        ("latin-1", latin.clone()),
        ("utf-16", little.clone()),
        ("utf-16", big.clone()),
        ("utf-16le", little),
        ("utf-8", marked.into_bytes()),
    ] {
        let file = text(&dir, "a.txt", &bytes);
        let lines = Bag::read_text(Files::new(&file).encoding(encoding)).unwrap();
        assert_eq!(lines.compute(client).unwrap(), wanted, "{encoding}");
    }
    let file = text(&dir, "a.txt", &latin);
    let blocks = Bag::read_text(Files::new(&file).encoding("latin1").blocksize(4)).unwrap();
    assert!(blocks.npartitions() > 3);
    assert_eq!(blocks.compute(client).unwrap(), wanted);
    // A file of the other byte order that is larger than what is read at once.
    let line = "zwölf Boxkämpfer jagen";
    let many = format!("\u{feff}{}", format!("{line}\n").repeat(20_000));
    let many: Vec<u8> = many.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let file = text(&dir, "many.txt", many);
    let same = Bag::read_text(Files::new(&file).encoding("utf-16")).unwrap().filter(|l| l == "zwölf Boxkämpfer jagen");
    assert_eq!(same.count().compute(client).unwrap(), 20_000);
}

pub fn delimiters(client: &Client) {
    let dir = directory();
    let file = text(&dir, "a.txt", "one\ntwo\n\nthree\n\n\nfour\r\n\nfive");
    let paragraphs = Bag::read_text(Files::new(&file).delimiter("\n\n")).unwrap();
    assert_eq!(paragraphs.compute(client).unwrap(), ["one\ntwo", "three", "\nfour\r", "five"]);
    let words = Bag::read_text(Files::new(&file).delimiter("\n").blocksize(3)).unwrap();
    assert_eq!(words.compute(client).unwrap(), ["one", "two", "", "three", "", "", "four\r", "", "five"]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u32,
    #[serde(default)]
    tags: Vec<String>,
}

pub fn json_lines(client: &Client) {
    let dir = directory();
    let file = text(
        &dir,
        "a.jsonl",
        "{\"name\": \"Ada\", \"age\": 36, \"tags\": [\"a\"]}\n\n  \r\n{\"age\": 7, \"name\": \"B\\u00f6\"}",
    );
    let people = Bag::<Person>::read_json(&file).unwrap();
    let wanted = [
        Person { name: "Ada".to_string(), age: 36, tags: vec!["a".to_string()] },
        Person { name: "Bö".to_string(), age: 7, tags: vec![] },
    ];
    assert_eq!(people.compute(client).unwrap(), wanted);
    let split = Bag::<Person>::read_json(Files::new(&file).blocksize(10)).unwrap();
    assert_eq!(split.compute(client).unwrap(), wanted);
    let values = Bag::<Json>::read_json(&file).unwrap();
    assert_eq!(values.compute(client).unwrap()[1], Json(serde_json::json!({"age": 7, "name": "Bö"})));
    let maps = Bag::<HashMap<String, Json>>::read_json(&file).unwrap();
    assert_eq!(maps.map(|m| m["age"].as_u64()).compute(client).unwrap(), [Some(36), Some(7)]);
}

pub fn csv_records(client: &Client) {
    let dir = directory();
    let head = "name,age,town\n";
    let file =
        text(&dir, "a.csv", format!("{head}Ada,36,London\n\"Bö, jr\",7,\"New\r\nYork\"\n\nC,8,\"say \"\"x\"\"\""));
    let people = Bag::<(String, u32, String)>::read_csv(&file, Csv::new()).unwrap();
    let wanted = [("Ada", 36, "London"), ("Bö, jr", 7, "New\r\nYork"), ("C", 8, "say \"x\"")];
    assert_eq!(people.compute(client).unwrap(), wanted.map(|(a, b, c)| (a.to_string(), b, c.to_string())));
    let maps = Bag::<BTreeMap<String, String>>::read_csv(&file, Csv::new()).unwrap();
    assert_eq!(maps.map(|m| m["town"].len()).compute(client).unwrap(), [6, 9, 7]);
    // Columns are found by their names, in any block.
    #[derive(Clone, Serialize, Deserialize)]
    struct Row {
        n: u64,
        word: String,
    }
    let rows: String = (0..2000).map(|i| format!("w{i},{i},{}\n", i * i)).collect();
    let file = text(&dir, "b.csv", format!("\u{feff}word,n,square\n{rows}"));
    let rows = Bag::<Row>::read_csv(Files::new(&file).blocksize(1000), Csv::new()).unwrap();
    assert!(rows.npartitions() > 20);
    assert_eq!(rows.map(|r| r.n).sum().compute(client).unwrap(), 1999 * 1000);
    assert_eq!(rows.map(|r| r.word.len()).sum().compute(client).unwrap(), 10 * 2 + 90 * 3 + 900 * 4 + 1000 * 5);
    let file = text(&dir, "c.tsv", "1\t x \n2\ty\tz\n");
    let format = Csv::new().delimiter(b'\t').headers(false).trim();
    let rows = Bag::<Vec<String>>::read_csv(&file, format).unwrap();
    assert_eq!(rows.compute(client).unwrap(), [vec!["1", "x"], vec!["2", "y", "z"]]);
}

fn longest(lines: &mut Lines) -> Result<Option<(String, Option<u64>, u64)>, FileError> {
    let mut longest = None;
    let mut length = 0;
    while let Some(line) = lines.next_line()? {
        if line.len() > length {
            length = line.len();
            let line = line.to_string();
            longest = Some((line, lines.line_number(), lines.offset()));
        }
    }
    Ok(longest)
}

pub fn strings_are_spared(client: &Client) {
    let dir = directory();
    text(&dir, "a.txt", "one\nthree\ntwo\n");
    text(&dir, "b.txt", "");
    text(&dir, "c.txt", "x\n");
    let found = Bag::read_with(path(&dir, "*.txt"), longest).unwrap();
    assert_eq!(found.npartitions(), 3);
    let wanted = [("three".to_string(), Some(2), 4), ("x".to_string(), Some(1), 0)];
    assert_eq!(found.compute(client).unwrap(), wanted);
    let together = Bag::read_with(Files::new(path(&dir, "*.txt")).files_per_partition(3), longest).unwrap();
    assert_eq!(together.compute(client).unwrap(), wanted);
}

pub fn empty_files(client: &Client) {
    let dir = directory();
    let file = text(&dir, "a", "");
    assert!(Bag::read_text(Files::new(&file).blocksize(10)).unwrap().compute(client).unwrap().is_empty());
    assert!(Bag::<i64>::read_json(&file).unwrap().compute(client).unwrap().is_empty());
    assert!(Bag::<(i64,)>::read_csv(&file, Csv::new()).unwrap().compute(client).unwrap().is_empty());
    let file = text(&dir, "head.csv", "n\n");
    assert!(Bag::<(i64,)>::read_csv(&file, Csv::new()).unwrap().compute(client).unwrap().is_empty());
}
