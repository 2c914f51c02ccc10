//! Files that say nothing true of their sizes, and those whose sizes change.

use crate::common::{directory, path};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::Write;
use swath::files::{FileError, FileProblem, Files};
use swath::{Bag, Client, Error};

fn failure<T: Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    error.task().and_then(|task| task.downcast()).unwrap_or_else(|| panic!("not a file's: {error}"))
}

fn lines(files: impl Into<Files>, client: &Client) -> Vec<String> {
    Bag::read_text(files).unwrap().compute(client).unwrap()
}

pub fn files_of_the_kernel(client: &Client) {
    // One that says it is empty, one that says it is a page, and a pattern of some.
    let version = fs::read_to_string("/proc/version").unwrap();
    assert_eq!(lines("/proc/version", client).join("\n"), version.trim_end());
    assert_eq!(lines(Files::new("/proc/version").blocksize(3), client).len(), version.lines().count());
    assert!(lines("/proc/cpuinfo", client).iter().any(|line| line.starts_with("processor")));
    assert!(lines("/proc/self/stat[u]s", client).iter().any(|line| line.starts_with("Pid:")));
    let file = "/sys/kernel/mm/transparent_hugepage/enabled";
    let file = if fs::read(file).is_ok() { file } else { "/sys/kernel/uevent_seqnum" };
    let Ok(text) = fs::read_to_string(file) else { return };
    assert_eq!(fs::metadata(file).unwrap().len(), 4096);
    for files in [Files::new(file), Files::new(file).blocksize(2), Files::new(file).growing()] {
        assert_eq!(lines(files, client).len(), text.lines().count());
    }
}

pub fn a_log_that_is_being_written(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.log");
    let mut log = File::create(&file).unwrap();
    let empty = Bag::read_text(Files::new(&file).growing()).unwrap();
    (0..1000).for_each(|i| writeln!(log, "{i}").unwrap());
    let grown = [
        Bag::read_text(Files::new(&file).growing()).unwrap(),
        Bag::read_text(Files::new(&file).growing().blocksize(100)).unwrap(),
    ];
    let strict = Bag::read_text(&file).unwrap();
    (1000..2000).for_each(|i| writeln!(log, "{i}").unwrap());
    assert!(empty.compute(client).unwrap().is_empty());
    for bag in &grown {
        assert_eq!(bag.compute(client).unwrap(), (0..1000).map(|i| i.to_string()).collect::<Vec<_>>());
    }
    let error = failure(strict.compute(client));
    assert!(error.to_string().contains("say `Files::growing`"), "{error}");
    // It shrinks, or is another file now.
    log.set_len(100).unwrap();
    for bag in &grown {
        assert_eq!(failure(bag.compute(client)).problem(), &FileProblem::Changed { listed: 3890, found: 100 });
    }
    let other = path(&dir, "other");
    fs::write(&other, "x\n".repeat(10_000)).unwrap();
    fs::rename(&other, &file).unwrap();
    for bag in &grown {
        assert!(matches!(failure(bag.compute(client)).problem(), FileProblem::Changed { .. }));
    }
}

pub fn a_file_that_was_empty(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.txt");
    fs::write(&file, "").unwrap();
    let bag = Bag::read_text(&file).unwrap();
    assert!(bag.compute(client).unwrap().is_empty());
    fs::write(&file, "more\n").unwrap();
    assert_eq!(failure(bag.compute(client)).problem(), &FileProblem::Changed { listed: 0, found: 5 });
}

pub fn gzip_that_is_filled_up_with_zeroes(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.gz");
    Bag::range(0..100, 1).map(|i| i.to_string()).write_text(vec![&file]).unwrap().compute(client).unwrap();
    File::options().append(true).open(&file).unwrap().write_all(&[0; 1000]).unwrap();
    assert_eq!(lines(&file, client).len(), 100);
    File::options().append(true).open(&file).unwrap().write_all(b"rubbish").unwrap();
    let error = failure(Bag::read_text(&file).unwrap().compute(client));
    assert!(matches!(error.problem(), FileProblem::Corrupt { .. }), "{error}");
}
