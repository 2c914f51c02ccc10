//! Writing to each kind of file: what is ordinary is replaced and keeps what it is, anything else is written through.

use crate::common::{Clean, directory, path, permitted};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use swath::events::EventLog;
use swath::files::{FileError, FileProblem, Output};
use swath::{Bag, Client, Error, delayed};
use tempfile::TempDir;

const TEXT: &str = "one\ntwo\n";

fn words() -> Bag<String> {
    Bag::from_sequence(["one", "two"].map(String::from), 1)
}

fn write(to: impl AsRef<Path>, client: &Client) -> Result<Vec<String>, Error> {
    words().write_text(vec![to.as_ref()])?.compute(client)
}

fn failure<T: Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    error.task().and_then(|task| task.downcast()).unwrap_or_else(|| panic!("not a file's: {error}"))
}

fn mode(file: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(file).unwrap().mode() & 0o7777
}

fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn devices_are_written_through(client: &Client) {
    let dir = directory();
    let error = failure(write("/dev/full", client));
    assert!(matches!(error.problem(), FileProblem::Io { reason } if reason.contains("No space left")), "{error}");
    assert_eq!(error.place().path, "/dev/full");
    // Through a link, too.
    symlink("/dev/full", path(&dir, "link")).unwrap();
    failure(write(path(&dir, "link"), client));
    write("/dev/null", client).unwrap();
    for device in ["/dev/full", "/dev/null"] {
        assert!(fs::metadata(device).unwrap().file_type().is_char_device(), "{device} is a device still");
    }
    assert!(fs::symlink_metadata(path(&dir, "link")).unwrap().is_symlink());
    let error = client.events().unwrap().save("/dev/full").unwrap_err().to_string();
    assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");
}

pub fn a_fifo_gets_the_text_once_somebody_reads_it(client: &Client) {
    let dir = directory();
    let fifo = path(&dir, "fifo");
    nix::unistd::mkfifo(Path::new(&fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // More than a pipe holds.
    let many = Bag::range(0..100_000, 1).map(|i| i.to_string());
    let (from, wanted) = (fifo.clone(), (0..100_000).map(|i| format!("{i}\n")).collect::<String>());
    let reader = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(50));
        let mut text = String::new();
        File::open(from).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    many.write_text(vec![&fifo]).unwrap().compute(client).unwrap();
    assert!(reader.join().unwrap() == wanted);
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(names(&dir), ["fifo"]);
}

pub fn nobody_reads_the_fifo(client: &Client) {
    let dir = directory();
    let fifo = path(&dir, "fifo");
    nix::unistd::mkfifo(Path::new(&fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    if client.mode() == swath::status::Mode::Sync {
        return;
    }
    let future = client.submit(&words().write_text(vec![&fifo]).unwrap()).unwrap();
    thread::sleep(std::time::Duration::from_millis(100));
    client.cancel(&future);
    assert!(client.gather(&[future]).is_err());
    // Whoever waited has gone.
    write(path(&dir, "file"), client).unwrap();
}

pub fn a_socket_gets_the_text(client: &Client) {
    let dir = directory();
    let socket = path(&dir, "socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    write(&socket, client).unwrap();
    assert_eq!(reader.join().unwrap(), TEXT);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    // Nobody listens any more.
    failure(write(&socket, client));
}

pub fn links_are_followed_to_their_end(client: &Client) {
    let dir = directory();
    fs::create_dir(path(&dir, "away")).unwrap();
    fs::write(path(&dir, "away/file"), "old").unwrap();
    symlink("away/file", path(&dir, "first")).unwrap();
    symlink(path(&dir, "first"), path(&dir, "second")).unwrap();
    write(path(&dir, "second"), client).unwrap();
    assert_eq!(fs::read_to_string(path(&dir, "away/file")).unwrap(), TEXT);
    assert!(["first", "second"].iter().all(|l| fs::symlink_metadata(path(&dir, l)).unwrap().is_symlink()));
    // To what is not there yet.
    symlink("away/new", path(&dir, "dangling")).unwrap();
    write(path(&dir, "dangling"), client).unwrap();
    assert_eq!(fs::read_to_string(path(&dir, "away/new")).unwrap(), TEXT);
    symlink("round", path(&dir, "round")).unwrap();
    let error = failure(write(path(&dir, "round"), client));
    assert!(error.to_string().contains("symbolic links"), "{error}");
    // Two partitions would be one file.
    let error = words().repartition(2).write_text(vec![path(&dir, "first"), path(&dir, "second")]).unwrap_err();
    assert!(error.to_string().contains("two partitions"), "{error}");
}

pub fn other_names_of_a_file_lead_to_the_new_text(client: &Client) {
    let dir = directory();
    fs::write(path(&dir, "one"), "a longer text than the new one\n".repeat(3)).unwrap();
    fs::hard_link(path(&dir, "one"), path(&dir, "two")).unwrap();
    write(path(&dir, "one"), client).unwrap();
    assert_eq!(fs::read_to_string(path(&dir, "two")).unwrap(), TEXT);
    let many = Bag::range(0..50_000, 1).map(|i| i.to_string());
    many.write_text(vec![path(&dir, "two")]).unwrap().compute(client).unwrap();
    assert_eq!(Bag::read_text(path(&dir, "one")).unwrap().count().compute(client).unwrap(), 50_000);
    assert_eq!(fs::metadata(path(&dir, "one")).unwrap().nlink(), 2);
    // Until all is there nothing has changed.
    let failing =
        Bag::range(0..50_000, 1).try_map(|i| if i < 49_999 { Ok(i.to_string()) } else { Err("no".to_string()) });
    failing.write_text(vec![path(&dir, "two")]).unwrap().compute(client).unwrap_err();
    assert_eq!(Bag::read_text(path(&dir, "one")).unwrap().count().compute(client).unwrap(), 50_000);
    assert_eq!(names(&dir), ["one", "two"]);
}

pub fn modes_and_owners_stay(client: &Client) {
    let dir = directory();
    let file = path(&dir, "file");
    fs::write(&file, "old").unwrap();
    for wanted in [0o600, 0o640, 0o755, 0o666, 0o2750] {
        fs::set_permissions(&file, fs::Permissions::from_mode(wanted)).unwrap();
        write(&file, client).unwrap();
        assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (wanted, TEXT), "{wanted:o}");
    }
    let log = path(&dir, "log");
    fs::write(&log, "old").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&log, path(&dir, "to log")).unwrap();
    client.events().unwrap().save(path(&dir, "to log")).unwrap();
    assert_eq!(mode(&log), 0o600);
    EventLog::open(&log).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(54_321), Some(54_322)).unwrap();
        write(&file, client).unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (54_321, 54_322));
    }
}

pub fn kept_results_go_where_links_lead(client: &Client) {
    fn costly(x: u64) -> Vec<u64> {
        vec![x; 1000]
    }
    let (dir, other) = (directory(), directory());
    let lazy = delayed(costly).pure().map([7_u64]);
    client.persist_to(dir.path(), &lazy).unwrap().iter().for_each(|kept| drop(client.compute(kept).unwrap()));
    let [name] = &names(&dir)[..] else { panic!("one file") };
    // Moved to another disk, say, and damaged there.
    let (file, moved) = (dir.path().join(name), other.path().join("moved"));
    fs::copy(&file, &moved).unwrap();
    fs::set_permissions(&moved, fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&moved, &file).unwrap();
    File::options().append(true).open(&moved).unwrap().write_all(b"x").unwrap();
    for kept in client.persist_to(dir.path(), &lazy).unwrap() {
        assert_eq!(client.compute(&kept).unwrap(), vec![7; 1000]);
    }
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(mode(&moved), 0o640);
    assert_eq!((names(&dir).len(), names(&other).len()), (1, 1));
}

/// What a user finds who is not root; the name of the test is the argument of its own process.
#[test]
fn files_of_others_as_another_user() {
    const INNER: &str = "SWATH_FILES_OF_OTHERS";
    let Some(folder) = std::env::var_os(INNER) else {
        let Some(wrapper) = permitted::as_another_user() else {
            return permitted::skip("no process can be started as another user");
        };
        let _clean = Clean::start();
        let dir = directory();
        let copy = dir.path().join("program");
        let installed =
            Command::new("install").args(["-m", "755"]).arg(std::env::current_exe().unwrap()).arg(&copy).status();
        assert!(installed.unwrap().success());
        for (name, mode) in [("readable", 0o444), ("hidden", 0o600), ("open", 0o666)] {
            fs::write(dir.path().join(name), "old").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        // All may put files there: only the file's own mode says no.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new(wrapper[0]);
        let test = thread::current().name().unwrap().to_string();
        command.args(&wrapper[1..]).arg(&copy).args(["--exact", &test, "--nocapture"]).current_dir("/");
        let status = command.env(INNER, dir.path()).status().unwrap();
        assert!(status.success(), "as another user: {status}");
        return;
    };
    let (folder, client) = (Path::new(&folder), Client::sync());
    for name in ["readable", "hidden"] {
        let error = failure(write(folder.join(name), &client));
        assert_eq!(error.problem(), &FileProblem::Denied, "{name}");
        let error = client.events().unwrap().save(folder.join(name)).unwrap_err();
        assert!(error.to_string().contains("ermission denied"), "{error}");
    }
    assert_eq!(fs::read_to_string(folder.join("readable")).unwrap(), "old");
    // Another one's file may be replaced where it may be written; it becomes one's own and no more open than before.
    write(folder.join("open"), &client).unwrap();
    assert_eq!((mode(folder.join("open")), fs::read_to_string(folder.join("open")).unwrap().as_str()), (0o666, TEXT));
}

pub fn fewer_parts_than_before(client: &Client) {
    let dir = directory();
    let numbers = |n: usize| Bag::range(0..60, n).map(|i| i.to_string());
    let write = |n: usize, output: Output| numbers(n).write_text(output).and_then(|paths| paths.compute(client));
    let folder = dir.path().join("a[b]*").with_file_name("a[b]");
    let count = || Bag::read_text(fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>());
    write(6, Output::new(&*folder)).unwrap();
    fs::write(folder.join("notes.part"), "mine\n").unwrap();
    let refused = |n: usize| match numbers(n).write_text(&*folder) {
        Err(Error::File(e)) => e,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(3).problem(), &FileProblem::OldParts { written: 3 });
    assert!(refused(3).to_string().starts_with(&*folder.join("3.part").to_string_lossy()), "{}", refused(3));
    // More digits are other names.
    assert_eq!(refused(11).problem(), &FileProblem::OldParts { written: 11 });
    // Nothing has been written or removed, and as many as before, or more, are no problem.
    write(6, Output::new(&*folder)).unwrap();
    write(7, Output::new(&*folder)).unwrap();
    // What fails removes nothing.
    let failing = Bag::range(0..60, 3).try_map(|i| if i < 59 { Ok(i.to_string()) } else { Err("no".to_string()) });
    let output = || Output::new(&*folder).replace_all();
    failing.write_text(output()).unwrap().compute(client).unwrap_err();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 8);
    write(3, output()).unwrap();
    assert_eq!(count().unwrap().count().compute(client).unwrap(), 60 + 1);
    write(11, output()).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 12);
    assert_eq!(count().unwrap().count().compute(client).unwrap(), 60 + 1);
    // Names of one's own are not numbers: others stay, unless they are to go.
    let months = |from: usize| {
        Output::new(dir.path().join("by month/*.log"))
            .names(move |i| ["jan", "feb", "mar", "apr"][from + i].to_string())
    };
    write(2, months(0)).unwrap();
    write(2, months(2)).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("by month")).unwrap().count(), 4);
    write(1, months(3).replace_all()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("by month")).unwrap().count(), 1);
}

pub fn numbers_that_json_has_not(client: &Client) {
    let dir = directory();
    let file = path(&dir, "a.jsonl");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let pairs = Bag::from_sequence([("a".to_string(), vec![1.5]), ("b".to_string(), vec![0.0, bad])], 1);
        let error = failure(pairs.write_json(vec![&file]).unwrap().compute(client));
        assert!(error.to_string().contains(&format!("{bad} has no form in JSON")), "{error}");
        assert!(!Path::new(&file).exists());
    }
    // What may be missing is an option.
    let some = Bag::from_sequence([Some(0.1), None, Some(f64::MIN_POSITIVE)], 1);
    some.write_json(vec![&file]).unwrap().compute(client).unwrap();
    let back = Bag::<Option<f64>>::read_json(&file).unwrap();
    assert_eq!(back.compute(client).unwrap(), [Some(0.1), None, Some(f64::MIN_POSITIVE)]);
}
