//! Which files there are, and what is refused before anything runs.

use crate::common::{directory, path};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use swath::bag::Csv;
use swath::files::{Block, Compression, FileProblem, Files};
use swath::{Bag, Error};

fn names(files: impl Into<Files>) -> Vec<String> {
    let name = |block: &Block| block.path().rsplit('/').next().unwrap().to_string();
    Files::new(files).blocks().unwrap().iter().map(name).collect()
}

fn problem(files: impl Into<Files>) -> FileProblem {
    match Files::new(files).blocks() {
        Err(Error::File(e)) => e.problem().clone(),
        other => panic!("{other:?}"),
    }
}

fn invalid(files: &Files) -> String {
    match files.blocks() {
        Err(Error::Invalid { what, why }) => format!("{what}: {why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn patterns_lists_and_urls() {
    let dir = directory();
    let folder = dir.path().display();
    for name in ["b.txt", "a.txt", "c.csv", ".hidden.txt", "sub/d.txt", "sub/deep/e.txt", "x[1].txt", "per cent%.txt"] {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x\n").unwrap();
    }
    fs::create_dir(dir.path().join("folder.txt")).unwrap();

    assert_eq!(names(format!("{folder}/?.txt")), ["a.txt", "b.txt"]);
    assert_eq!(names(format!("{folder}/[b-c].*")), ["b.txt", "c.csv"]);
    assert_eq!(names(format!("{folder}/*.txt")), ["a.txt", "b.txt", "per cent%.txt", "x[1].txt"]);
    assert_eq!(names(format!("{folder}/.*.txt")), [".hidden.txt"]);
    assert_eq!(names(format!("{folder}/*/*.txt")), ["d.txt"]);
    assert_eq!(names(format!("{folder}/sub/**/*.txt")), ["d.txt", "e.txt"]);
    assert_eq!(names(format!("{folder}/x[1].txt")), ["x[1].txt"]);
    assert_eq!(names(format!("file://{folder}/per%20cent%25.txt")), ["per cent%.txt"]);
    assert_eq!(names(format!("file:{folder}/*.csv")), ["c.csv"]);
    // A list keeps its order; each pattern in it is sorted.
    let list = [format!("{folder}/c.csv"), format!("{folder}/[ab].txt"), format!("{folder}/a.txt")];
    assert_eq!(names(list.clone()), ["c.csv", "a.txt", "b.txt", "a.txt"]);
    assert_eq!(names(&list[..]), names(list.to_vec()));
    assert_eq!(names(dir.path().join("a.txt")), ["a.txt"]);
    let absolute = Files::new("Cargo.toml").blocks().unwrap()[0].path();
    assert!(absolute.starts_with('/') && absolute.ends_with("/Cargo.toml"));
}

#[test]
fn what_is_not_there() {
    let dir = directory();
    let folder = dir.path().display();
    assert_eq!(problem(format!("{folder}/*.txt")), FileProblem::NotFound);
    assert_eq!(problem(path(&dir, "a.txt")), FileProblem::NotFound);
    assert_eq!(problem(dir.path()), FileProblem::Directory);
    assert!(matches!(problem("ftp://host/file"), FileProblem::Unsupported { .. }));
    assert!(matches!(problem(""), FileProblem::Unsupported { .. }));
    assert!(matches!(problem(format!("{folder}/[")), FileProblem::Unsupported { .. }));
    let strange = dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff.txt"));
    fs::write(&strange, "x").unwrap();
    assert!(matches!(problem(&strange), FileProblem::Unsupported { .. }));
    assert!(matches!(problem(format!("{folder}/*.txt")), FileProblem::Unsupported { .. }));
    // The readers of bags say the same, before anything runs.
    let missing = path(&dir, "missing");
    let errors = [
        Bag::read_text(&missing).map(drop),
        Bag::<i64>::read_json(&missing).map(drop),
        Bag::<i64>::read_csv_with_bad_records(&missing, Csv::new()).map(drop),
    ];
    for error in errors.map(Result::unwrap_err) {
        assert_eq!(error.to_string(), format!("{missing}: no such file"));
    }
}

#[test]
fn what_makes_no_sense() {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "x\ny\n").unwrap();
    let files = Files::new(&file);
    assert!(invalid(&Files::new(Vec::<String>::new())).contains("empty"));
    assert!(invalid(&files.clone().encoding("klingon")).contains("`klingon` is not known"));
    assert!(invalid(&files.clone().blocksize(0)).contains("blocksize"));
    assert!(invalid(&files.clone().delimiter("")).contains("delimiter"));
    assert!(invalid(&files.clone().delimiter("\n\n").blocksize(9)).contains("cannot be split"));
    assert!(invalid(&files.clone().delimiter("|").encoding("shift_jis")).contains("within a character"));
    assert_eq!(files.clone().delimiter("\r\n").blocksize(2).blocks().unwrap().len(), 2);
    assert!(matches!(problem(files.clone().encoding("utf-16").blocksize(9)), FileProblem::Unsupported { .. }));
    let packed = problem(files.clone().compression(Compression::Xz).blocksize(9));
    assert!(matches!(&packed, FileProblem::Unsupported { reason } if reason.contains("xz")), "{packed}");
    let both = Bag::read_text(files.clone().blocksize(9).files_per_partition(2)).unwrap_err();
    assert!(both.to_string().contains("files_per_partition"), "{both}");
    assert!(Bag::read_text(files.clone().files_per_partition(0)).is_err());
    assert!(
        Bag::<(i64,)>::read_csv(files.delimiter(";"), Csv::new()).unwrap_err().to_string().contains("Csv::delimiter")
    );
}

#[test]
fn secrets_are_not_shown() {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "x\n").unwrap();
    let files = Files::new(&file).option("secret_access_key", "hush");
    let shown = format!("{files:?} {:?}", files.blocks().unwrap());
    assert!(shown.contains("a.txt") && !shown.contains("hush"), "{shown}");
    let output = swath::files::Output::new(&*file).option("secret_access_key", "hush");
    let shown = format!("{output:?} {:?}", output.files(1).unwrap());
    assert!(shown.contains("a.txt") && !shown.contains("hush"), "{shown}");
}
