//! What is told of files that are not as they should be.

use crate::common::{directory, path};
use std::fmt::Debug;
use std::fs;
use std::io::Write;
use swath::bag::Csv;
use swath::files::{FileError, FileProblem, Files, Output};
use swath::{Bag, Client, Error};

fn failure<T: Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    let task = error.task().unwrap_or_else(|| panic!("not a task's: {error}"));
    task.downcast().unwrap_or_else(|| panic!("not a file's: {error}"))
}

fn place(error: &FileError) -> (Option<u64>, Option<u64>) {
    (error.place().line, error.place().offset)
}

pub fn files_that_went_away(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "1\n2\n").unwrap();
    let text = Bag::read_text(&file).unwrap();
    let (numbers, bad) = Bag::<i64>::read_json_with_bad_records(&file).unwrap();
    let with = Bag::read_with(&file, |lines| Ok(lines.next_line()?.map(str::len))).unwrap();
    fs::remove_file(&file).unwrap();
    // Not a bad record, so nothing to be set aside.
    for error in [
        failure(text.compute(client)),
        failure(client.compute((&numbers, &bad))),
        failure(with.count().compute(client)),
    ] {
        assert_eq!(error.problem(), &FileProblem::NotFound);
        assert_eq!(error.to_string(), format!("{file}: no such file"));
    }
    fs::create_dir(&file).unwrap();
    let error = failure(text.compute(client));
    assert!(matches!(error.problem(), FileProblem::Changed { .. } | FileProblem::Directory), "{error}");
}

pub fn files_that_changed(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "one\ntwo\nthree\n").unwrap();
    let whole = Bag::read_text(&file).unwrap();
    let split = Bag::read_text(Files::new(&file).blocksize(5)).unwrap();
    for text in ["one\ntwo\n", "one\ntwo\nthree\nfour\n"] {
        fs::write(&file, text).unwrap();
        for lines in [&whole, &split] {
            let error = failure(lines.compute(client));
            assert_eq!(error.problem(), &FileProblem::Changed { listed: 14, found: text.len() as u64 });
        }
    }
    // As long as before, but not the same.
    fs::write(&file, "ONE\nTWO\nTHREE\n").unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options().append(true).open(&file).unwrap().set_modified(later).unwrap();
    assert!(failure(whole.compute(client)).to_string().contains("other contents"));
    assert_eq!(Bag::read_text(&file).unwrap().compute(client).unwrap(), ["ONE", "TWO", "THREE"]);
}

pub fn half_a_compressed_file(client: &Client) {
    let dir = directory();
    for extension in ["gz", "zst", "bz2", "xz"] {
        let file = path(&dir, &format!("a.{extension}"));
        let output = &Output::new([&*file]).files(1).unwrap()[0];
        output.write(|to| (0..50_000_u64).try_for_each(|i| writeln!(to, "{}", i.wrapping_mul(i * 77_777)))).unwrap();
        let whole = fs::read(&file).unwrap();
        for half in [&whole[..whole.len() / 2], b"", b"this was never packed\n"] {
            fs::write(&file, half).unwrap();
            let lines = Bag::read_text(&file).unwrap();
            let error = failure(lines.count().compute(client));
            assert!(matches!(error.problem(), FileProblem::Corrupt { .. }), "{extension}: {error}");
            assert!(error.to_string().starts_with(&file), "{error}");
            let (lines, bad) = Bag::read_text_with_bad_records(&file).unwrap();
            let error = failure(client.compute((&lines.count(), &bad.count())));
            assert!(matches!(error.problem(), FileProblem::Corrupt { .. }), "{extension}: {error}");
        }
    }
}

pub fn lines_that_are_no_text(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, b"one\ntw\xffo\nthree\nfo\xe2\x82\n").unwrap();
    let error = failure(Bag::read_text(&file).unwrap().compute(client));
    assert_eq!(place(&error), (Some(2), Some(4)));
    assert_eq!(error.to_string(), format!("{file}:2 (byte 4): byte 2 of the line is not UTF-8"));
    assert!(error.is_bad_record());
    let lossy = Bag::read_text(Files::new(&file).lossy()).unwrap();
    assert_eq!(lossy.compute(client).unwrap(), ["one", "tw\u{fffd}o", "three", "fo\u{fffd}"]);
    for blocksize in [1, 5, 100] {
        let (lines, bad) = Bag::read_text_with_bad_records(Files::new(&file).blocksize(blocksize)).unwrap();
        let (lines, bad) = client.compute((&lines, &bad)).unwrap();
        assert_eq!(lines, ["one", "three"]);
        assert_eq!(bad.iter().map(|b| b.text.as_str()).collect::<Vec<_>>(), ["tw\u{fffd}o", "fo\u{fffd}"]);
        assert_eq!(bad.iter().map(|b| place(&b.error)).collect::<Vec<_>>(), [(Some(2), Some(4)), (Some(4), Some(15))]);
    }
    let japanese = Bag::read_text(Files::new(&file).encoding("shift_jis")).unwrap();
    let error = failure(japanese.compute(client));
    assert!(error.to_string().contains("is not Shift_JIS"), "{error}");
}

pub fn bad_json(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.jsonl");
    fs::write(&file, b"[1,2]\n[3,\n\n[4,5,6]\n\xff\n[7,8]\n").unwrap();
    let error = failure(Bag::<(i64, i64)>::read_json(&file).unwrap().compute(client));
    assert_eq!(place(&error), (Some(2), Some(6)));
    assert!(error.to_string().contains("bad JSON record: EOF while parsing"), "{error}");
    let (good, bad) = Bag::<(i64, i64)>::read_json_with_bad_records(&file).unwrap();
    // Skipped,
    assert_eq!(good.compute(client).unwrap(), [(1, 2), (7, 8)]);
    // counted,
    assert_eq!(client.compute((&good.count(), &bad.count())).unwrap(), (2, 3));
    // or kept.
    let bad = bad.compute(client).unwrap();
    assert_eq!(bad.iter().map(|b| b.text.as_str()).collect::<Vec<_>>(), ["[3,", "[4,5,6]", "\u{fffd}"]);
    let places: Vec<_> = bad.iter().map(|b| place(&b.error)).collect();
    assert_eq!(places, [(Some(2), Some(6)), (Some(4), Some(11)), (Some(5), Some(19))]);
    assert!(bad[1].to_string().ends_with("at column 6") && !bad[1].to_string().contains("line 1"), "{}", bad[1]);
}

pub fn bad_csv(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.csv");
    fs::write(&file, "name,n\na,1\nb,two\nc\nd,4\n").unwrap();
    let error = failure(Bag::<(String, i64)>::read_csv(&file, Csv::new()).unwrap().compute(client));
    assert_eq!(place(&error), (Some(3), Some(11)));
    assert!(error.to_string().contains("bad CSV record: column `n` is \"two\""), "{error}");
    let (good, bad) = Bag::<(String, i64)>::read_csv_with_bad_records(&file, Csv::new()).unwrap();
    let (good, bad) = client.compute((&good.map(|(_, n)| n), &bad)).unwrap();
    assert_eq!(good, [1, 4]);
    assert_eq!(bad.iter().map(|b| b.text.as_str()).collect::<Vec<_>>(), ["b,two", "c"]);
    assert_eq!(place(&bad[1].error), (Some(4), Some(17)));
}

pub fn what_is_wrong_in_a_later_block(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.jsonl");
    let mut lines: Vec<_> = (0..5000).map(|i| i.to_string()).collect();
    lines[4321] = "oops".to_string();
    fs::write(&file, lines.join("\n")).unwrap();
    let numbers = Bag::<u64>::read_json(Files::new(&file).blocksize(1000)).unwrap();
    let error = failure(numbers.sum().compute(client));
    assert_eq!(place(&error), (Some(4322), Some(10 * 2 + 90 * 3 + 900 * 4 + 3321 * 5)));
    let records = Bag::<(u64,)>::read_csv(Files::new(&file).blocksize(1000), Csv::new().headers(false)).unwrap();
    assert_eq!(place(&failure(records.count().compute(client))), place(&error));
}

pub fn bad_headers(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.csv");
    for (text, blocksize) in
        [(&b"n\xff,m\n1,2\n3,4\n"[..], 100), (b"n\xff,m\n1,2\n3,4\n", 5), (b"\nn,m\n1,2\n3,4\n", 6)]
    {
        fs::write(&file, text).unwrap();
        let (good, bad) =
            Bag::<(i64, i64)>::read_csv_with_bad_records(Files::new(&file).blocksize(blocksize), Csv::new()).unwrap();
        let error = failure(client.compute((&good, &bad)));
        assert!(matches!(error.problem(), FileProblem::BadHeader { .. }), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read() {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "line\n".repeat(200_000)).unwrap();
    let mut lines = Files::new(&file).blocks().unwrap()[0].lines().unwrap();
    assert_eq!(lines.next_line().unwrap(), Some("line"));
    fs::File::options().write(true).open(&file).unwrap().set_len(500_000).unwrap();
    let error = lines.for_each(|_| ()).unwrap_err();
    assert_eq!(error.problem(), &FileProblem::Changed { listed: 1_000_000, found: 500_000 });
    assert_eq!(place(&error), (None, Some(500_000)));
    // It ends there.
    assert_eq!(lines.next_line().unwrap(), None);
}
