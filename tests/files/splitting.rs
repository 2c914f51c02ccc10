//! However a file is split, each of its lines is read once, and tells where it is.

use crate::common::directory;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use swath::files::Files;

/// The lines, each with its offset.
fn read(files: &Files) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for block in files.blocks().unwrap() {
        let mut lines = block.lines().unwrap();
        let mut bytes = 0;
        while let Some(line) = lines.next_line().unwrap() {
            let line = line.to_string();
            bytes += line.len();
            found.push((lines.offset(), line));
            // Counts lines, so not for each in real use.
            assert_eq!(lines.locate().line, Some(found.len() as u64), "{block:?}");
        }
        assert!(block.bytes().unwrap().len() >= bytes);
    }
    found
}

fn offsets<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(u64, &'a str)> {
    let mut at = 0_u64;
    let place = |line: &'a str| {
        let start = at;
        at += line.len() as u64;
        (start, line)
    };
    lines.map(place).collect()
}

fn file(dir: &Path, text: &str) -> Files {
    let path = dir.join("a.txt");
    fs::write(&path, text).unwrap();
    Files::new(path)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines(text in "[ab\u{e9}\r\n]{0,60}", blocksize in 1..80_u64) {
        let dir = directory();
        let files = file(dir.path(), &text).blocksize(blocksize);
        let blocks = files.blocks().unwrap();
        prop_assert_eq!(blocks.len() as u64, (text.len() as u64).div_ceil(blocksize).max(1));
        prop_assert_eq!(blocks.iter().flat_map(|b| b.bytes().unwrap()).collect::<Vec<_>>(), text.as_bytes());
        let wanted = offsets(text.split_inclusive('\n'));
        let stripped = |line: &str| {
            let line = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
            line.to_string()
        };
        let got = read(&files);
        prop_assert_eq!(got, wanted.iter().map(|(at, l)| (*at, stripped(l))).collect::<Vec<_>>());
        let kept = read(&files.keep_line_ends());
        prop_assert_eq!(kept, wanted.iter().map(|(at, l)| (*at, l.to_string())).collect::<Vec<_>>());
    }

    #[test]
    fn other_ends(text in "[a;|]{0,60}", blocksize in 1..80_u64, end in "(;\\||\\|;;|;)") {
        let dir = directory();
        let files = file(dir.path(), &text).delimiter(&end);
        let wanted = offsets(text.split_inclusive(&end));
        let stripped: Vec<_> =
            wanted.iter().map(|(at, l)| (*at, l.strip_suffix(&end).unwrap_or(l).to_string())).collect();
        prop_assert_eq!(read(&files), stripped.clone());
        prop_assert_eq!(read(&files.blocksize(blocksize)), stripped);
    }
}

#[test]
fn long_lines_and_many() {
    let dir = directory();
    // Lines around the sizes in which files are read.
    let line = |i: usize| "x".repeat((i * 7919) % 40_000) + &i.to_string();
    let mut text: String = (0..60).map(|i| line(i) + "\n").collect();
    text += &"y".repeat(700_000);
    text += "\nlast";
    let wanted: Vec<_> = text.lines().collect();
    let files = file(dir.path(), &text);
    for blocksize in [None, Some(1 << 14), Some(100_000), Some(262_144), Some(1 << 20)] {
        let files = blocksize.map_or(files.clone(), |n| files.clone().blocksize(n));
        let got: Vec<_> = files
            .blocks()
            .unwrap()
            .iter()
            .flat_map(|block| {
                let mut found = Vec::new();
                block.lines().unwrap().for_each(|line| found.push(line.to_string())).unwrap();
                found
            })
            .collect();
        assert!(got == wanted, "{blocksize:?}: {} lines, wanted {}", got.len(), wanted.len());
    }
}
