//! Results in files that outlive the program: what was computed once need not be computed again after a crash.
//!
//! A file is named after what computes its value: the function and all it is given, down to the first arguments. It
//! says which build of the program wrote it, what type its value has, and a checksum of its bytes, so that one which is
//! damaged, cut short, or of another build counts as missing. It gets its name when all of it is on disk.

use super::Client;
use super::blocking::spawn_blocking;
use crate::delayed::{Delayed, delayed, try_delayed};
use crate::error::{Error, Result};
use crate::files::{open_file, write_whole};
use crate::graph::node::Node;
use crate::task::{Data, codec, image};
use rustc_hash::FxHashSet;
use std::any::type_name;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"swathkp1";
/// What follows the value: its length and its checksum.
const FOOTER: usize = 8 + 16;

impl Client {
    /// [`persist`](Self::persist), with a copy of each result in a file of `directory`, which is made where there is none.
    /// Results of which there is a file already are read from there and not computed.
    ///
    /// So a program that is started again after a crash, or after an argument of some of its tasks has changed,
    /// computes only what is missing. The files belong to one build of the program: another one takes no notice of them.
    /// Nothing is ever removed; that is up to the caller.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let directory = tempfile::tempdir()?;
    /// fn costly(x: u64) -> Vec<u64> {
    ///     vec![x; 1000]
    /// }
    ///
    /// let client = Client::threads(2);
    /// let results = delayed(costly).pure().map(0..10_u64);
    /// let kept = client.persist_to(directory.path(), &results)?;
    /// assert_eq!(client.compute(&kept[3])?, vec![3; 1000]);
    ///
    /// let again = client.persist_to(directory.path(), &results)?; // reads ten files
    /// assert_eq!(client.compute(&again[3])?, vec![3; 1000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where a function is not [pure](crate::DelayedFn::pure), for then nothing says that an earlier result
    /// is still right, or where the directory cannot be made. A file that cannot be written fails its task.
    pub fn persist_to<T: Data>(&self, directory: impl AsRef<Path>, what: &[Delayed<T>]) -> Result<Vec<Delayed<T>>> {
        let directory = directory.as_ref();
        let invalid = |e: io::Error| Error::invalid("directory", format!("{}: {e}", directory.display()));
        fs::create_dir_all(directory).map_err(invalid)?;
        let directory = directory.canonicalize().map_err(invalid)?;
        let mut files = Vec::with_capacity(what.len());
        for lazy in what {
            check_pure(lazy.node())?;
            files.push(file_of(&directory, lazy.node()));
        }
        let there: Vec<&String> = files.iter().filter(|file| Path::new(file).exists()).collect();
        let checks: Vec<_> = there.iter().map(|file| delayed(is_whole::<T>).call(file.as_str())).collect();
        let whole: FxHashSet<&String> =
            there.into_iter().zip(self.compute(&checks)?).filter_map(|(file, whole)| whole.then_some(file)).collect();
        let tasks: Vec<Delayed<T>> = what
            .iter()
            .zip(&files)
            .map(|(lazy, file)| match whole.contains(file) {
                true => try_delayed(load::<T>).pure().call(file.as_str()),
                false => try_delayed(keep::<T>).pure().call(file.as_str(), lazy),
            })
            .collect();
        self.persist(&tasks)
    }

    /// [`persist_to`](Self::persist_to) for async code: a thread of its own looks at the files that are there.
    ///
    /// # Errors
    /// As [`persist_to`](Self::persist_to).
    pub async fn persist_to_async<T: Data>(
        &self,
        directory: impl AsRef<Path>,
        what: &[Delayed<T>],
    ) -> Result<Vec<Delayed<T>>> {
        let (client, directory, what) = (self.clone(), directory.as_ref().to_path_buf(), what.to_vec());
        spawn_blocking(move || client.persist_to(directory, &what)).await?
    }
}

fn file_of(directory: &Path, node: &Node) -> String {
    directory.join(format!("{:032x}.swath", node.hash())).to_string_lossy().into_owned()
}

/// Refuses what may give another result the next time.
fn check_pure(root: &Arc<Node>) -> Result<()> {
    let mut node = root;
    // The first in the order of its arguments that is not pure, though all that it needs may be.
    while !node.reproducible {
        let mut why = None;
        if node.is_pure() {
            node.each_input(&mut |input| why = why.or((!input.reproducible).then_some(input)));
        }
        let Some(input) = why else {
            let why = "it may give another result each time; say that its function is `.pure()`";
            return Err(Error::invalid(node.key(), why));
        };
        node = input;
    }
    Ok(())
}

/// What a file of this build for a `T` begins with.
fn head<T>() -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    let about = format!("{:?} {}", image::build_id(), type_name::<T>());
    head.extend_from_slice(&(about.len() as u32).to_le_bytes());
    head.extend_from_slice(about.as_bytes());
    head
}

/// Writes through to a file, and learns length and checksum on the way.
struct Summing<W> {
    to: W,
    hasher: Xxh3,
    len: u64,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a value to a file and hands it on. Where two write at once, each writes a file of its own, and both say the same.
fn keep<T: Data>(file: String, value: T) -> std::result::Result<T, String> {
    match write_whole(Path::new(&file), true, |out| write(out, &value)) {
        Ok(()) => Ok(value),
        Err(e) => Err(format!("its result cannot be kept in {file}: {e}")),
    }
}

fn write<T: Data>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    out.write_all(&head::<T>())?;
    let mut summing = Summing { to: &mut *out, hasher: Xxh3::new(), len: 0 };
    codec::encode_to(value, &mut summing).map_err(io::Error::other)?;
    let (len, sum) = (summing.len, summing.hasher.digest128());
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&sum.to_le_bytes())
}

/// The encoded value in a file, if the file is what it should be.
fn read<T: Data>(file: &str) -> std::result::Result<Vec<u8>, String> {
    let wrong = |what: &str| format!("{file} {what}");
    let (mut from, _) = open_file(Path::new(file)).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let head = head::<T>();
    if !bytes.starts_with(&head) {
        return Err(wrong("is of another build of the program, or of another type"));
    }
    bytes.drain(..head.len());
    let footer = bytes.len().checked_sub(FOOTER).map(|at| bytes.split_off(at)).ok_or_else(|| wrong("is cut short"))?;
    let mut expected = Vec::with_capacity(FOOTER);
    expected.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let mut hasher = Xxh3::new();
    hasher.update(&bytes);
    expected.extend_from_slice(&hasher.digest128().to_le_bytes());
    if footer != expected {
        return Err(wrong("is damaged: its checksum is not that of its contents"));
    }
    Ok(bytes)
}

fn is_whole<T: Data>(file: String) -> bool {
    match read::<T>(&file) {
        Ok(_) => true,
        Err(reason) => {
            log::warn!("{reason}; it is computed again");
            false
        }
    }
}

fn load<T: Data>(file: String) -> std::result::Result<T, String> {
    codec::decode(&read::<T>(&file)?)
}
