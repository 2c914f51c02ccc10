//! Writing files.

use crate::common::{directory, path};
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use swath::files::{Compression, FileError, FileProblem, Output};
use swath::status::Mode;
use swath::{Bag, Client, Error};

fn words(n: usize) -> Bag<String> {
    Bag::from_sequence((0..100).map(|i| format!("word {i}")), n)
}

/// All files in a directory, with hidden ones.
fn files(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn failure<T: Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    error.task().and_then(|task| task.downcast()).unwrap_or_else(|| panic!("not a file's: {error}"))
}

pub fn lines_come_back(client: &Client) {
    let dir = directory();
    let all = words(11).compute(client).unwrap();
    for extension in ["txt", "gz", "zst", "bz2", "xz"] {
        let target = path(&dir, &format!("deep/{extension}/part-*.{extension}"));
        let paths = words(11).write_text(&*target).unwrap().compute(client).unwrap();
        assert_eq!(paths.len(), 11);
        assert!(paths[3].ends_with(&format!("/deep/{extension}/part-03.{extension}")), "{}", paths[3]);
        assert_eq!(Bag::read_text(paths.clone()).unwrap().compute(client).unwrap(), all);
        // The names sort as the partitions do.
        assert_eq!(Bag::read_text(&*target).unwrap().compute(client).unwrap(), all);
        assert_eq!(files(dir.path().join("deep").join(extension)).len(), 11);
    }
    let plain = fs::read_to_string(path(&dir, "deep/txt/part-00.txt")).unwrap();
    assert!(plain.starts_with("word 0\nword 1\n") && plain.ends_with('\n'));
    assert_eq!(fs::read(path(&dir, "deep/gz/part-00.gz")).unwrap()[..2], [0x1f, 0x8b]);
    assert_eq!(fs::read(path(&dir, "deep/zst/part-00.zst")).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
}

pub fn names_and_places(client: &Client) {
    let dir = directory();
    let write = |output: Output| words(3).write_text(output).and_then(|paths| paths.compute(client));
    write(Output::new(dir.path().join("folder"))).unwrap();
    assert_eq!(files(dir.path().join("folder")), ["0.part", "1.part", "2.part"]);
    let named = Output::new(path(&dir, "named/*.log")).names(|i| ["x", "y", "z"][i].to_string());
    write(named).unwrap();
    assert_eq!(files(dir.path().join("named")), ["x.log", "y.log", "z.log"]);
    let listed = Output::new(["c", "b", "a"].map(|name| path(&dir, &format!("listed/{name}"))));
    let paths = write(listed.compression(Compression::Gzip)).unwrap();
    assert_eq!(paths, ["c", "b", "a"].map(|name| path(&dir, &format!("listed/{name}"))));
    assert_eq!(fs::read(&paths[0]).unwrap()[..2], [0x1f, 0x8b]);
    let url = write(Output::new(format!("file://{}/url/*.txt", dir.path().display()))).unwrap();
    assert_eq!(url[0], path(&dir, "url/0.txt"));
    // Readable by whom the process's mask lets: not only by the owner, as temporary files are.
    let mode = |file: &str| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    fs::write(path(&dir, "plain"), "").unwrap();
    assert_eq!(mode(&url[0]), mode(&path(&dir, "plain")));

    for (output, why) in [
        (Output::new(vec![path(&dir, "one")]), "1 paths for 3 partitions"),
        (Output::new(path(&dir, "*/*.txt")), "more than one `*`"),
        (Output::new(path(&dir, "*.txt")).names(|i| (i / 2).to_string()), "two partitions"),
        (Output::new("ftp://host/*.txt"), "`ftp`"),
    ] {
        let error = words(3).write_text(output).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

pub fn json_lines(client: &Client) {
    let dir = directory();
    let pairs = Bag::from_sequence((0..20).map(|i| (format!("line\n{i}"), i)), 4);
    let paths = pairs.write_json(path(&dir, "*.jsonl.zst")).unwrap().compute(client).unwrap();
    let back = Bag::<(String, i32)>::read_json(&paths[..]).unwrap();
    assert_eq!(back.compute(client).unwrap(), pairs.compute(client).unwrap());
    // Not everything can be said in JSON.
    let keys = Bag::from_sequence([std::collections::BTreeMap::from([((1, 2), 3)])], 1);
    let error = failure(keys.write_json(path(&dir, "bad/*.jsonl")).unwrap().compute(client));
    assert!(error.to_string().contains("key must be a string"), "{error}");
    assert!(files(dir.path().join("bad")).is_empty());
}

pub fn failed_writes_leave_nothing(client: &Client) {
    let dir = directory();
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(path(&dir, "out/1.txt"), "from before\n").unwrap();
    let numbers = Bag::range(0..1000, 2);
    let failing = numbers.try_map(|i| if i < 900 { Ok(i.to_string()) } else { Err(format!("{i} is too much")) });
    let error = failing.write_text(path(&dir, "out/*.txt")).unwrap().compute(client).unwrap_err();
    // What failed is the element, not the writing.
    assert_eq!(error.task().unwrap().downcast::<String>().as_deref(), Some("900 is too much"), "{error}");
    assert_eq!(files(dir.path().join("out")), ["0.txt", "1.txt"]);
    assert_eq!(fs::read_to_string(path(&dir, "out/1.txt")).unwrap(), "from before\n");
    let panicking = numbers.map(|i| if i < 900 { i.to_string() } else { panic!("{i} is too much") });
    let error = panicking.write_json(path(&dir, "more/*.txt.gz")).unwrap().compute(client).unwrap_err();
    assert!(error.to_string().contains("900 is too much (at element 400 of partition 1)"), "{error}");
    assert_eq!(files(dir.path().join("more")), ["0.txt.gz"]);
}

pub fn files_are_replaced(client: &Client) {
    let dir = directory();
    let target = path(&dir, "*.txt");
    fs::write(path(&dir, "0.txt"), "x".repeat(10_000)).unwrap();
    let paths = words(2).write_text(Output::new(&*target)).unwrap().compute(client).unwrap();
    assert_eq!(Bag::read_text(paths).unwrap().count().compute(client).unwrap(), 100);
    assert_eq!(files(dir.path()), ["0.txt", "1.txt"]);
    match words(2).write_text(Output::new(&*target).only_new()) {
        Err(Error::File(e)) => assert_eq!(e.problem(), &FileProblem::Exists),
        other => panic!("{other:?}"),
    }
    words(2).write_text(Output::new(path(&dir, "new/*.txt")).only_new()).unwrap().compute(client).unwrap();
}

pub fn places_that_cannot_be_written(client: &Client) {
    let dir = directory();
    fs::write(path(&dir, "file"), "").unwrap();
    let error = failure(words(1).write_text(path(&dir, "file/*.txt")).unwrap().compute(client));
    assert!(error.to_string().starts_with(&path(&dir, "file/0.txt")), "{error}");
    fs::create_dir(path(&dir, "0.txt")).unwrap();
    let error = failure(words(1).write_text(path(&dir, "*.txt")).unwrap().compute(client));
    assert_eq!(error.problem(), &FileProblem::Directory);
    // A full disk.
    let error = failure(words(1).map(|w| w.repeat(1000)).write_text("/dev/full/*.txt").unwrap().compute(client));
    assert!(matches!(error.problem(), FileProblem::Io { .. } | FileProblem::Exists), "{error}");
}

pub fn described_once_written_twice(client: &Client) {
    let dir = directory();
    let target = path(&dir, "*.txt");
    let written = words(2).write_text(&*target).unwrap();
    let kept = written.persist(client).unwrap();
    assert_eq!(kept.compute(client).unwrap().len(), 2);
    fs::remove_file(path(&dir, "0.txt")).unwrap();
    // The same again is not taken for what has been written.
    words(2).write_text(&*target).unwrap().compute(client).unwrap();
    assert_eq!(files(dir.path()), ["0.txt", "1.txt"]);
    // Empty partitions are files, too.
    words(3).filter(|_| false).write_text(path(&dir, "empty/*.txt")).unwrap().compute(client).unwrap();
    assert_eq!(files(dir.path().join("empty")).len(), 3);
}

/// The first time, it ends its process.
fn dies_once(word: String, marker: &String) -> String {
    if word == "word 77" && Path::new(marker).exists() {
        fs::remove_file(marker).unwrap();
        std::process::abort();
    }
    word
}

pub fn killed_writers_leave_nothing(client: &Client) {
    if client.mode() != Mode::Processes {
        return;
    }
    let dir = directory();
    let marker = path(&dir, "marker");
    fs::write(&marker, "").unwrap();
    let written = words(2).map_with(dies_once, marker.clone()).write_text(path(&dir, "out/*.txt")).unwrap();
    let paths = written.compute(client).unwrap();
    assert!(!Path::new(&marker).exists(), "nobody has died");
    assert_eq!(Bag::read_text(paths).unwrap().compute(client).unwrap(), words(1).compute(client).unwrap());
    assert_eq!(files(dir.path().join("out")), ["0.txt", "1.txt"]);
}
