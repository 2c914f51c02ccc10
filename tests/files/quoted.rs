//! CSV whose quoted fields hold line ends, split at every block size.

use crate::common::{directory, path};
use csv::{ReaderBuilder, StringRecord};
use proptest::prelude::*;
use std::fs;
use swath::bag::Csv;
use swath::files::{BadRecord, FileError, FileProblem, Files};
use swath::{Bag, Client, Error};

type Row = Vec<String>;

fn plain() -> Csv {
    Csv::new().headers(false).flexible()
}

fn rows(files: impl Into<Files>, csv: Csv, client: &Client) -> (Vec<Row>, Vec<BadRecord>) {
    let (rows, bad) = Bag::<Row>::read_csv_with_bad_records(files, csv).unwrap();
    client.compute((&rows, &bad)).unwrap()
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    error.task().and_then(|task| task.downcast()).unwrap_or_else(|| panic!("not a file's: {error}"))
}

/// What the parser makes of the whole text; whether its last record has no end.
fn parsed(text: &str) -> (Vec<Row>, bool) {
    let records = |text: &str| {
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        reader.into_records().map(Result::unwrap).collect::<Vec<StringRecord>>()
    };
    let behind = records(&format!("{text}\nZ"));
    let is_open = behind.last().and_then(|r| r.iter().next_back()).is_some_and(|field| field.ends_with("\nZ"));
    (records(text).iter().map(|r| r.iter().map(String::from).collect()).collect(), is_open)
}

/// 2,000 records, every seventh with a line end inside quotes, as the issue has it.
pub fn two_thousand_records_with_quoted_line_ends(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.csv");
    let note = |i: u32| if i.is_multiple_of(7) { format!("two\r\nlines of {i}") } else { format!("note {i}") };
    let text: String = (0..2000).map(|i| format!("{i},\"{}\"\n", note(i))).collect();
    fs::write(&file, format!("id,note\n{text}")).unwrap();
    let wanted: Vec<_> = (0..2000).map(|i| (i, note(i))).collect();
    for blocksize in [500, 3000, 1 << 20] {
        let files = Files::new(&file).blocksize(blocksize);
        let found = Bag::<(u32, String)>::read_csv(&files, Csv::new()).unwrap();
        assert_eq!(found.compute(client).unwrap(), wanted, "{blocksize}");
        let one = Bag::<(u32, String)>::read_csv(&files, Csv::new().single_lines()).unwrap();
        let error = failure(one.compute(client));
        assert!(error.to_string().contains("leave that out") && !error.is_bad_record(), "{error}");
    }
    // Only what is before them is read for the first ones.
    let rows = Bag::<(u32, String)>::read_csv(Files::new(&file).blocksize(500), Csv::new()).unwrap();
    assert_eq!(rows.take(3, 1).compute(client).unwrap(), wanted[..3]);
}

pub fn a_quote_that_is_never_closed(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.csv");
    let text: String =
        (1..=100).map(|i| if i == 51 { "51,\"oops\n".to_string() } else { format!("{i},x\n") }).collect();
    fs::write(&file, &text).unwrap();
    let whole = rows(&file, plain(), client);
    assert_eq!((whole.0.len(), whole.1.len()), (50, 1));
    assert_eq!((whole.1[0].error.place().line, whole.1[0].text.as_str()), (Some(51), "51,\"oops"));
    assert!(whole.1[0].to_string().contains("has no end: close it, or say `Csv::quoting(false)`"), "{}", whole.1[0]);
    for blocksize in [1, 10, 100, 1000] {
        let files = Files::new(&file).blocksize(blocksize);
        assert_eq!(rows(&files, plain(), client), whole, "{blocksize}");
        let error = failure(Bag::<Row>::read_csv(&files, plain()).unwrap().compute(client));
        assert_eq!(error, whole.1[0].error);
        // Where quotes mean nothing there is nothing wrong.
        let (all, bad) = rows(&files, plain().quoting(false), client);
        assert_eq!((all.len(), bad.len(), all[50][1].as_str()), (100, 0, "\"oops"));
    }
    // In the names of the columns.
    fs::write(&file, "a,\"b\n1,2\n3,4\n").unwrap();
    for blocksize in [1, 5, 100] {
        let error =
            failure(Bag::<Row>::read_csv(Files::new(&file).blocksize(blocksize), Csv::new()).unwrap().compute(client));
        assert!(matches!(error.problem(), FileProblem::BadHeader { .. }), "{error}");
    }
}

pub fn quoted_line_ends_in_names_and_other_encodings(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.csv");
    let text = "\"the\nname\",n\n\"é\n\",1\n\"b\r\n\r\n\"\"é\"\"\",2\nc,3\n";
    let wanted = [("é\n", 1), ("b\r\n\r\n\"é\"", 2), ("c", 3)].map(|(name, n)| (name.to_string(), n));
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Named {
        n: u32,
        #[serde(rename = "the\nname")]
        name: String,
    }
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let gb = encoded(text);
    for (encoding, bytes) in [("utf-8", text.as_bytes()), ("latin-1", &latin), ("gb18030", &gb)] {
        fs::write(&file, bytes).unwrap();
        for blocksize in 1..=bytes.len() as u64 {
            let files = Files::new(&file).encoding(encoding).blocksize(blocksize);
            let found = Bag::<Named>::read_csv(files, Csv::new()).unwrap().map(|row| (row.name, row.n));
            assert_eq!(found.compute(&Client::sync()).unwrap(), wanted, "{encoding} {blocksize}");
        }
    }
    let files = Files::new(&file).encoding("gb18030").blocksize(9);
    let found = Bag::<(String, u32)>::read_csv(files, Csv::new()).unwrap();
    assert_eq!(found.compute(client).unwrap(), wanted);
    // Units of two bytes cannot be split; that is told with the file's name and what to do.
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, wide).unwrap();
    let files = Files::new(&file).encoding("utf-16le");
    let whole = Bag::<(String, u32)>::read_csv(files.clone(), Csv::new()).unwrap();
    assert_eq!(whole.compute(client).unwrap(), wanted);
    let error = Bag::<(String, u32)>::read_csv(files.blocksize(9), Csv::new()).unwrap_err().to_string();
    assert!(error.starts_with(&file) && error.contains("leave out the blocksize"), "{error}");
}

/// In GB18030, where `é` has two bytes.
fn encoded(text: &str) -> Vec<u8> {
    let known = |c: char| match c {
        'é' => vec![0xa8, 0xa6],
        _ => vec![c as u8],
    };
    text.chars().flat_map(known).collect()
}

/// A value over two lines is no JSON line, wherever the file is cut.
pub fn json_values_over_two_lines(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.jsonl");
    let text = "[1,\n2]\n[3, 4]\n";
    fs::write(&file, text).unwrap();
    for blocksize in 1..=text.len() as u64 {
        let files = Files::new(&file).blocksize(blocksize);
        let (good, bad) = Bag::<(u8, u8)>::read_json_with_bad_records(&files).unwrap();
        let (good, bad) = Client::sync().compute((&good, &bad)).unwrap();
        assert_eq!((good, bad.len()), (vec![(3, 4)], 2));
        assert!(bad[0].to_string().starts_with(&format!("{file}:1 ")), "{}", bad[0]);
        assert!(bad[0].to_string().ends_with("each value has to be on one line"), "{}", bad[0]);
    }
    failure(Bag::<(u8, u8)>::read_json(&file).unwrap().compute(client));
}

const PARTS: [&str; 12] = ["a", "é", ",", ",", "\"", "\"", "\"\"", "\n", "\n", "\r\n", "\r", "\u{feff}"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_block_size_gives_the_records_of_the_parser(
        first in "[a\",\n]{0,4}",
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..20),
        names in any::<bool>(),
    ) {
        let (dir, client) = (directory(), Client::sync());
        let file = path(&dir, "a.csv");
        let text = first + &parts.concat();
        fs::write(&file, &text).unwrap();
        let (mut wanted, is_open) = parsed(&text);
        if is_open {
            wanted.pop();
        }
        let csv = plain();
        let whole = rows(&file, csv.clone(), &client);
        // The parser leaves out a second byte order mark.
        if !text.starts_with("\u{feff}") {
            prop_assert_eq!(&whole.0, &wanted, "{:?}", text);
        }
        prop_assert_eq!(whole.1.len(), usize::from(is_open), "{:?}", text);
        let (_, places) = {
            let (good, bad) = Bag::<Vec<u8>>::read_csv_with_bad_records(&file, csv.clone()).unwrap();
            client.compute((&good, &bad)).unwrap()
        };
        // A blank first line is refused where a later block looks for names.
        let start = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let headed = !start.starts_with(['\n', '\r']) && names && (!is_open || !wanted.is_empty());
        let with_names = headed.then(|| rows(&file, Csv::new().flexible(), &client));
        for blocksize in 1..=text.len() as u64 {
            let files = Files::new(&file).blocksize(blocksize);
            prop_assert_eq!(&rows(&files, csv.clone(), &client), &whole, "{:?} {}", text, blocksize);
            let (good, bad) = Bag::<Vec<u8>>::read_csv_with_bad_records(&files, csv.clone()).unwrap();
            prop_assert_eq!(&client.compute((&good, &bad)).unwrap().1, &places, "{:?} {}", text, blocksize);
            if let Some(with_names) = &with_names {
                prop_assert_eq!(&rows(&files, Csv::new().flexible(), &client), with_names, "{:?} {}", text, blocksize);
            }
        }
    }

    #[test]
    fn delimited_text_and_encodings_of_two_bytes_at_every_block_size(
        text in "[ab|あ表ー\n;]{0,24}", end in "(\n|;|\\||あ;|;\\|)",
    ) {
        let dir = directory();
        let file = path(&dir, "a.txt");
        fs::write(&file, &text).unwrap();
        let client = Client::sync();
        let files = Files::new(&file).delimiter(&end);
        let wanted: Vec<_> = text.split_inclusive(&end).map(|l| l.strip_suffix(&end).unwrap_or(l)).collect();
        for blocksize in 1..=text.len() as u64 {
            let found = Bag::read_text(files.clone().blocksize(blocksize)).unwrap().compute(&client).unwrap();
            prop_assert_eq!(&found, &wanted, "{:?}", text);
        }
        // Of `ー` and `表` the second byte is that of `[` and `\`, so text of Shift_JIS ends at line ends only.
        let japanese: Vec<u8> = text.chars().flat_map(shift_jis).collect();
        fs::write(&file, &japanese).unwrap();
        let files = Files::new(&file).encoding("shift_jis");
        let wanted: Vec<_> = text.lines().collect();
        for blocksize in 1..=japanese.len() as u64 {
            let found = Bag::read_text(files.clone().blocksize(blocksize)).unwrap().compute(&client).unwrap();
            prop_assert_eq!(&found, &wanted, "{:?}", text);
        }
    }
}

fn shift_jis(c: char) -> Vec<u8> {
    match c {
        'あ' => vec![0x82, 0xa0],
        '表' => vec![0x95, 0x5c],
        'ー' => vec![0x81, 0x5b],
        _ => vec![c as u8],
    }
}
