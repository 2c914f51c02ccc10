//! The executable that a program passes: which build is it really?

use crate::task::image;
use crate::task::image::BuildId;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

const PT_NOTE: u32 = 4;
/// Notes are some hundred bytes; more of them are no reason to read on.
const MOST_NOTES: u64 = 1 << 20;

/// Whether the file behind `fd` is an executable of that build. A program that says otherwise than it is would leave
/// workers of the wrong build to all others that share its.
pub(crate) fn check(fd: &OwnedFd, claimed: &BuildId) -> Result<(), String> {
    let io = |e: io::Error| format!("the executable it sent cannot be read: {e}");
    let file = File::from(fd.as_fd().try_clone_to_owned().map_err(io)?);
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() || meta.mode() & 0o111 == 0 {
        return Err("what it sent is no executable file".to_string());
    }
    let found = match note(&file).map_err(io)? {
        Some(note) => BuildId::Note(note),
        None => image::identity_of(&meta),
    };
    if found != *claimed {
        return Err("the executable it sent is another build than it says".to_string());
    }
    Ok(())
}

/// The build id among the notes of an ELF64 file.
fn note(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    if header[..5] != *b"\x7fELF\x02" {
        return Err(io::Error::other("it is no 64-bit ELF file"));
    }
    let at = |b: &[u8], i: usize, n: usize| b[i..i + n].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    let (table, size, count) = (at(&header, 32, 8), at(&header, 54, 2), at(&header, 56, 2));
    for i in 0..count {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table.saturating_add(i * size))?;
        let (offset, len) = (at(&entry, 8, 8), at(&entry, 32, 8));
        if at(&entry, 0, 4) != u64::from(PT_NOTE) || len > MOST_NOTES {
            continue;
        }
        let mut notes = vec![0; len as usize];
        file.read_exact_at(&mut notes, offset)?;
        if let Some(id) = image::build_id_of(&notes) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn open(path: &str) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn our_own_executable_is_the_build_we_run() {
        check(&open("/proc/self/exe"), image::build_id()).unwrap();
    }

    #[test]
    fn a_wrong_claim_and_files_that_are_no_program_are_refused() {
        let wrong = BuildId::Note(vec![1, 2, 3]);
        assert!(check(&open("/proc/self/exe"), &wrong).unwrap_err().contains("another build"));
        assert!(check(&open("/dev/null"), &wrong).unwrap_err().contains("no executable"));
        assert!(check(&open("/"), &wrong).unwrap_err().contains("no executable"));
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        for text in ["#!/bin/sh\n".repeat(20), "\x7fELF\x02".to_string(), format!("\x7fELF\x02{}", "\x7f".repeat(80))] {
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            assert!(check(&open(script.to_str().unwrap()), &wrong).unwrap_err().contains("cannot be read"));
        }
    }
}
