//! The executable's own image: where it lies in memory, and what build it is.
//!
//! A task function is known to another process of the same build by the offset of its record from the start of the
//! image, which is the same wherever the loader put the image. Records are constants with relocations, so the linker
//! places them in a data segment that is read-only after relocation; only offsets into such a segment are accepted.

use nix::libc;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::hash::BuildHasher;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

unsafe extern "C" {
    /// The ELF header at the start of the image; the linker defines it.
    static __ehdr_start: u8;
}

/// Where the executable lies in memory.
struct Image {
    base: usize,
    /// Offsets that may hold a record: loaded segments with file contents, without gaps inside.
    data: Vec<Range<usize>>,
    build: BuildId,
}

/// Says which build of which program a process runs. Equal ids mean equal code at equal offsets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum BuildId {
    /// The linker's build id note.
    Note(Vec<u8>),
    /// Device, inode, size and modification time of the file, where the linker wrote no note.
    File([u64; 5]),
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(bytes) => bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Self::File(parts) => f.write_str(&parts.map(|n| format!("{n:x}")).join("-")),
        }
    }
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// Program header of ELF64; the fields as the ELF specification has them.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    _flags: u32,
    _offset: u64,
    address: u64,
    _physical: u64,
    file_size: u64,
    _memory_size: u64,
    _align: u64,
}

fn base() -> usize {
    &raw const __ehdr_start as usize
}

/// Where the library and the executable are, if this code is part of a shared library.
pub(crate) fn outside_executable() -> Option<(PathBuf, PathBuf)> {
    let base = base();
    // SAFETY: the call only reads what the kernel told this process. Without an entry it answers 0.
    let executable_headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    if executable_headers == 0 || executable_headers == base + headers_at(base) {
        return None;
    }
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is part of this image, and the answer has room for what is written; a name lives as long as the
    // image, which is this one.
    let library = unsafe {
        let known = libc::dladdr(base as *const libc::c_void, found.as_mut_ptr()) != 0;
        let name = found.assume_init().dli_fname;
        (known && !name.is_null()).then(|| PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())))
    };
    let executable = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    Some((library.unwrap_or_default(), executable))
}

/// Where in an image its program headers are.
fn headers_at(base: usize) -> usize {
    // SAFETY: `base` is the address of this image's own ELF header, which the loader has mapped and nobody writes. This is
    // `e_phoff` of ELF64; `read_unaligned` asks nothing of its alignment.
    unsafe { (base as *const u8).add(32).cast::<u64>().read_unaligned() as usize }
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let base = base();
        let headers = program_headers(base);
        // The image is mapped at `base`, while its headers count from the lowest address it was linked for.
        let linked = headers.iter().filter(|h| h.kind == PT_LOAD).map(|h| h.address as usize).min().unwrap_or(0);
        let span = |h: &ProgramHeader| {
            let start = h.address as usize - linked;
            start..start + h.file_size as usize
        };
        let data = headers.iter().filter(|h| h.kind == PT_LOAD).map(span).collect();
        let note = headers.iter().filter(|h| h.kind == PT_NOTE).find_map(|h| {
            let span = span(h);
            // SAFETY: a note segment is part of the mapped image, is `file_size` bytes long and is never written.
            let bytes = unsafe { std::slice::from_raw_parts((base + span.start) as *const u8, span.len()) };
            build_id_of(bytes)
        });
        let build = note.map_or_else(file_identity, BuildId::Note);
        Image { base, data, build }
    })
}

fn program_headers(base: usize) -> Vec<ProgramHeader> {
    let at = headers_at(base);
    // SAFETY: as in `headers_at`. `e_phentsize` (at 54) and `e_phnum` (at 56) of ELF64 describe the program headers, which lie
    // in the same first segment; `read_unaligned` asks nothing of their alignment.
    unsafe {
        let header = base as *const u8;
        let size = header.add(54).cast::<u16>().read_unaligned() as usize;
        let count = header.add(56).cast::<u16>().read_unaligned() as usize;
        (0..count).map(|i| header.add(at + i * size).cast::<ProgramHeader>().read_unaligned()).collect()
    }
}

/// Finds the build id among the notes of one segment.
pub(crate) fn build_id_of(mut notes: &[u8]) -> Option<Vec<u8>> {
    let word = |b: &[u8], at: usize| Some(u32::from_ne_bytes(b.get(at..at + 4)?.try_into().ok()?));
    loop {
        let (name, desc, kind) = (word(notes, 0)? as usize, word(notes, 4)? as usize, word(notes, 8)?);
        let start = 12 + name.next_multiple_of(4);
        if kind == NT_GNU_BUILD_ID && notes.get(12..16)? == b"GNU\0" {
            return Some(notes.get(start..start + desc)?.to_vec());
        }
        notes = notes.get(start + desc.next_multiple_of(4)..)?;
    }
}

fn file_identity() -> BuildId {
    match std::fs::metadata("/proc/self/exe") {
        Ok(m) => identity_of(&m),
        Err(_) => BuildId::File([0; 5]),
    }
}

/// What a build is known by where its file has no note.
pub(crate) fn identity_of(m: &std::fs::Metadata) -> BuildId {
    BuildId::File([m.dev(), m.ino(), m.size(), m.mtime() as u64, m.mtime_nsec() as u64])
}

/// The build this process runs.
pub(crate) fn build_id() -> &'static BuildId {
    &image().build
}

/// The offset of a record in this image. `None` where it belongs to a shared library.
pub(crate) fn offset_of<T>(record: &'static T) -> Option<u64> {
    let at = (record as *const T as usize).wrapping_sub(image().base);
    holds::<T>(at).then_some(at as u64)
}

/// Where a record lies, counted from the start of the image, whether it belongs to the image or not.
pub(crate) fn log_id_of<T>(record: &'static T) -> u64 {
    (record as *const T as usize).wrapping_sub(base()) as u64
}

/// The same for what need not be a record: in all processes of this build it is the same for the same static.
pub(crate) fn place_of<T>(what: &T) -> u64 {
    (what as *const T as usize).wrapping_sub(base()) as u64
}

/// The address of a record at an offset, if one could lie there. What is there is for the caller to check.
pub(crate) fn address_of<T>(offset: u64) -> Option<*const T> {
    let at = usize::try_from(offset).ok()?;
    let address = image().base.checked_add(at)?;
    (holds::<T>(at) && address.is_multiple_of(align_of::<T>())).then_some(address as *const T)
}

/// Where an address of code is, counted from the start of the image. `None` where it belongs to a shared library.
pub(crate) fn place_in_code(address: usize) -> Option<u64> {
    let at = address.wrapping_sub(image().base);
    holds::<u8>(at).then_some(at as u64)
}

/// The address of such a place.
pub(crate) fn address_in_code(place: u64) -> Option<usize> {
    address_of::<u8>(place).map(|address| address as usize)
}

/// A short form of [`build_id`].
pub(crate) fn build_hash() -> u64 {
    static HASH: OnceLock<u64> = OnceLock::new();
    *HASH.get_or_init(|| FxBuildHasher.hash_one(build_id()))
}

fn holds<T>(at: usize) -> bool {
    at.checked_add(size_of::<T>()).is_some_and(|end| image().data.iter().any(|r| r.start <= at && end <= r.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    static HERE: u64 = 0x1234_5678;

    #[test]
    fn a_build_is_shown_in_one_word() {
        assert_eq!(BuildId::Note(vec![1, 0xab]).to_string(), "01ab");
        assert_eq!(BuildId::File([1, 2, 3, 4, 255]).to_string(), "1-2-3-4-ff");
    }

    #[test]
    fn a_static_of_the_image_is_found_again() {
        let offset = offset_of(&HERE).expect("in the image");
        assert_eq!(address_of::<u64>(offset), Some(&raw const HERE));
    }

    #[test]
    fn offsets_outside_are_refused() {
        for offset in [1 << 40, u64::MAX, u64::MAX - 7] {
            assert_eq!(address_of::<u64>(offset), None);
        }
        static HEAP: OnceLock<Box<u64>> = OnceLock::new();
        let heap: &'static u64 = HEAP.get_or_init(|| Box::new(1));
        assert_eq!(offset_of(heap), None);
    }

    #[test]
    fn this_is_an_executable() {
        assert_eq!(outside_executable(), None);
    }

    #[test]
    fn a_build_has_an_id() {
        assert_ne!(*build_id(), BuildId::File([0; 5]));
        assert_eq!(build_id_of(&[1, 2, 3]), None);
    }
}
