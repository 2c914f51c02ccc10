//! Where the pieces of a shuffle lie: in the spill directory, counted against its limit, and what is said when it takes none.

use super::disks::with_directory;
use crate::common::*;
use crate::{MIB, block, limited, sum};
use std::sync::Arc;
use swath::bag::BagError;
use swath::client::Builder;
use swath::{Bag, Client, delayed};

/// `mib` MiB of elements, in eight partitions.
fn elements(mib: usize) -> Bag<(usize, Vec<u8>)> {
    let each = mib * MIB / 8 / 64;
    let make = |(part, len): (usize, usize)| (0..64).map(move |i| (part * 64 + i, vec![part as u8; len]));
    Bag::generate(make, (0..8).map(move |part| (part, each)))
}

/// Groups so much; gives the number of elements in groups.
fn group(client: &Client, mib: usize) -> swath::Result<usize> {
    elements(mib).groupby(|(i, _)| i % 10, 4).map(|(_, group)| group.len()).sum().compute(client)
}

/// What a failed shuffle says: the directory, the setting, and the text.
fn refused(error: &swath::Error) -> (String, String, String) {
    match error.task().unwrap_or_else(|| panic!("{error}")).downcast::<BagError>() {
        Some(BagError::Spool { directory, setting, .. }) => (directory, setting, error.to_string()),
        other => panic!("{other:?}: {error}"),
    }
}

fn builder() -> Builder {
    Client::builder().workers(2).threads(1).forward_output(false)
}

#[test]
fn pieces_lie_in_the_spill_directory() {
    let _clean = Clean::start();
    let dir = directory();
    let there = dir.path().to_str().unwrap().to_string();
    let open = |group: (usize, Vec<(usize, Vec<u8>)>), dir: &String| {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let there = links.filter_map(|l| std::fs::read_link(l.ok()?.path()).ok()).filter(|l| l.starts_with(dir));
        (group.1.len(), there.count())
    };
    // With a memory limit and without one: it has been set.
    for builder in [builder(), builder().memory_limit("512MB")] {
        let client = builder.spill_directory(&there).build().unwrap();
        let groups = elements(1).groupby(|(i, _)| i % 10, 4).map_with(open, there.clone()).compute(&client).unwrap();
        assert_eq!(groups.iter().map(|(len, _)| len).sum::<usize>(), 512);
        // One file, which is closed when the last of four readers has its pieces: the first one sees it.
        assert!(groups.iter().all(|(_, open)| *open <= 1) && groups.iter().any(|(_, open)| *open == 1), "{groups:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }
    // Not set, they are where temporary files are, whatever the limit.
    let client = limited(1, "512MB").build().unwrap();
    let default = elements(1).groupby(|(i, _)| i % 10, 4).map_with(open, "/var/tmp".to_string());
    let expected = usize::from(std::env::temp_dir() == std::path::Path::new("/var/tmp"));
    assert!(default.compute(&client).unwrap().iter().all(|(_, open)| *open == expected));
}

#[test]
fn pieces_count_against_the_limit_and_are_given_back() {
    let _clean = Clean::start();
    let dir = directory();
    let client = builder().spill_directory(dir.path()).spill_limit("12MB").build().unwrap();
    let kept = client.persist(&delayed(block).call(1, 7)).unwrap();
    for _ in 0..5 {
        // More than the limit in all, if nothing were given back.
        assert_eq!(group(&client, 6).unwrap(), 512);
    }
    let (directory, setting, text) = refused(&group(&client, 30).unwrap_err());
    assert_eq!((directory.as_str(), setting.as_str()), (dir.path().to_str().unwrap(), "spill_limit"));
    assert!(text.contains("of 12000000 are on disk; raise `spill_limit`"), "{text}");
    // What others hold is as it was, and what failed holds nothing.
    assert_eq!(client.compute(&kept.map(sum)).unwrap(), sum(block(1, 7)));
    until("its room is given back", || group(&client, 6).is_ok());
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn pieces_of_a_dead_worker_no_longer_count() {
    let _clean = Clean::start();
    let dir = directory();
    let client = builder().workers(1).spill_directory(dir.path()).spill_limit("12MB").build().unwrap();
    let dies = |group: (usize, Vec<(usize, Vec<u8>)>), file: &Arc<String>| {
        if notes(file).is_empty() {
            note(file, "dies");
            send_signal(std::process::id(), nix::sys::signal::Signal::SIGKILL);
            std::thread::sleep(LONG);
        }
        group.1.len()
    };
    let file = Arc::new(path(&dir, "notes"));
    let sizes = elements(8).groupby(|(i, _)| i % 10, 4).map_with(dies, file).sum();
    // The pieces are made again, for which there is room only because those of the dead worker count no more.
    assert_eq!(sizes.compute(&client).unwrap(), 512);
    assert_eq!(client.deaths().unwrap().len(), 1);
}

#[test]
fn a_directory_that_is_gone_is_said() {
    let _clean = Clean::start();
    let dir = directory();
    let spill = dir.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let client = builder().workers(1).spill_directory(&spill).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    std::fs::remove_dir(&spill).unwrap();
    let (directory, setting, text) = refused(&group(&client, 1).unwrap_err());
    assert_eq!((directory.as_str(), setting.as_str()), (spill.to_str().unwrap(), "spill_directory"));
    assert!(text.contains("No such file or directory") && text.contains("`spill_directory` names another"), "{text}");
    std::fs::create_dir(&spill).unwrap();
    assert_eq!(group(&client, 1).unwrap(), 512);
    // The files have no names, so they go on without the directory.
    std::fs::remove_dir(&spill).unwrap();
    assert_eq!(group(&client, 1).unwrap(), 512);
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    let dir = std::env::var("SWATH_TEST_DIR").unwrap();
    let client = limited(1, "128MiB").spill_directory(&dir).build().unwrap();
    let kept = match &*role {
        // Some of them lie in the directory.
        "full" => 0..14_u64,
        _ => 0..2,
    };
    let futures = client.submit_all(&kept.clone().map(|i| delayed(block).call(8, i)).collect::<Vec<_>>()).unwrap();
    for future in &futures {
        until("it is there", || future.is_done());
    }
    let (directory, setting, text) = refused(&group(&client, 64).unwrap_err());
    assert_eq!((directory, setting.as_str()), (dir, "spill_directory"));
    say(text);
    for (i, future) in kept.zip(&futures) {
        assert_eq!(client.compute(&delayed(sum).call(future)).unwrap(), sum(block(8, i)), "{i}");
    }
    if role == "full" {
        assert!(client.memory().unwrap().spilled() > 0);
        until("there is room for less", || group(&client, 1).is_ok());
    }
    assert_eq!(client.deaths().unwrap(), []);
    say("well");
}

#[test]
fn a_full_directory_is_said_and_loses_nothing() {
    let _clean = Clean::start();
    let dir = directory();
    let mount = "mount -t tmpfs -o size=60m tmpfs \"$SWATH_TEST_DIR\"";
    let Some(command) = with_directory(dir.path(), mount, "true", ("memory::shuffles::roles", "full")) else { return };
    let words = play(command);
    assert!(words[0].contains("No space left on device") && words[0].contains("`spill_directory`"), "{words:?}");
    assert_eq!(words[1], "well");
}

#[test]
fn a_read_only_directory_is_said() {
    let _clean = Clean::start();
    let dir = directory();
    let mount = "mount --bind \"$SWATH_TEST_DIR\" \"$SWATH_TEST_DIR\" && mount -o remount,bind,ro \"$SWATH_TEST_DIR\"";
    let Some(command) = with_directory(dir.path(), mount, "true", ("memory::shuffles::roles", "denied")) else {
        return;
    };
    let words = play(command);
    assert!(words[0].contains("Read-only file system") && words[0].contains("`spill_directory`"), "{words:?}");
    assert_eq!(words[1], "well");
}
