//! Bags into files.

use super::Bag;
use crate::Result;
use crate::collection::{Elements, Input, Layer, pass};
use crate::delayed::{Delayed, delayed, try_delayed};
use crate::files::formats::{json, text, write_lines};
use crate::files::{FileError, Output, OutputFile, Writer};
use crate::task::Data;
use crate::task::returned::KeepError;
use std::sync::Arc;

impl<T: Data> Bag<T> {
    /// Writes text files: each element a line, each partition a file, in order. Computing the result writes them, and gives
    /// their paths.
    ///
    /// [`Output`] says where, what happens to files that are there, and that a failed write leaves none.
    ///
    /// # Errors
    /// Where the names make no sense, see [`Output::files`].
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path().display();
    /// let words = Bag::from_sequence(["one", "two", "three"].map(String::from), 2);
    /// let paths = words.write_text(format!("{folder}/out/words-*.txt.gz"))?.compute(&Client::sync())?;
    /// assert!(paths[1].ends_with("/out/words-1.txt.gz"));
    /// assert_eq!(Bag::read_text(paths)?.compute(&Client::sync())?, ["one", "two", "three"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_text(&self, output: impl Into<Output>) -> Result<Delayed<Vec<String>>>
    where
        T: AsRef<str>,
    {
        fn write_text<T: AsRef<str>>(elements: Elements<T>, file: Arc<OutputFile>) -> String {
            write(elements, &file, text::write_line)
        }
        self.write(write_text::<T>, output.into())
    }

    /// Writes files of JSON lines: each element a line, each partition a file, in order. Otherwise as
    /// [`write_text`](Self::write_text).
    ///
    /// JSON has no form for a number that is NaN or infinite. An element with one fails the writing, with a
    /// [`FileError`]; it is not written as `null`, which could not be read as a number again. What may be missing is an
    /// `Option`. (`serde_json` itself makes `null` of such a number where a [`Json`](crate::Json) is made of it.)
    ///
    /// # Errors
    /// As [`write_text`](Self::write_text).
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path().display();
    /// let pairs = Bag::from_sequence([("a".to_string(), 1), ("b".to_string(), 2)], 1);
    /// let paths = pairs.write_json(format!("{folder}/*.jsonl"))?.compute(&Client::sync())?;
    /// assert_eq!(std::fs::read_to_string(&paths[0])?, "[\"a\",1]\n[\"b\",2]\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_json(&self, output: impl Into<Output>) -> Result<Delayed<Vec<String>>> {
        fn write_json<T: Data>(elements: Elements<T>, file: Arc<OutputFile>) -> String {
            write(elements, &file, json::write_line)
        }
        self.write(write_json::<T>, output.into())
    }

    fn write<F: Fn(Elements<T>, Arc<OutputFile>) -> String + Copy + Send + 'static>(
        &self,
        function: F,
        output: Output,
    ) -> Result<Delayed<Vec<String>>> {
        fn remove(paths: Vec<String>, old: Vec<OutputFile>) -> Result<Vec<String>, FileError> {
            old.iter().try_for_each(OutputFile::remove).map(|()| paths)
        }
        let n = self.npartitions();
        let inputs = (Input::elements(&self.partitions), Input::each(output.files(n)?));
        let paths = Layer::over(inputs).chunks(function).to_delayed();
        // Known to nobody before all of the new ones are there.
        Ok(match output.old_parts(n)? {
            old if old.is_empty() => delayed(|paths: Vec<String>| paths).name("paths").call(paths),
            old => try_delayed(remove).keep_error().name("paths").call(paths, old),
        })
    }
}

/// Writes a partition; gives the path of the file.
fn write<T>(
    elements: Elements<T>,
    file: &OutputFile,
    line: impl FnMut(&T, &mut Writer) -> std::io::Result<()>,
) -> String {
    // The elements also end where one before failed; then there is to be no file.
    if let Err(e) = write_lines(elements, file, line, || !pass::is_over()) {
        // If an element failed that is the error, not this.
        pass::fail(KeepError(e));
    }
    file.path()
}
