//! Bags of what is in files.

use super::Bag;
use crate::Result;
use crate::collection::{Input, Layer, pass, unfailing};
use crate::delayed::{Delayed, delayed, try_delayed, value};
use crate::files::formats::csv::{Csv, CsvFormat, QuoteEffect};
use crate::files::formats::json::JsonLines;
use crate::files::formats::text::Text;
use crate::files::formats::{Format, Found, Records};
use crate::files::{BadRecord, Block, FileError, Files, Lines};
use crate::task::Data;
use crate::task::returned::KeepError;
use std::marker::PhantomData;
use std::sync::Arc;

/// Records of which none is bad: the first that is ends the reading.
fn all<T, F>(blocks: Vec<Block>, format: F) -> impl Iterator<Item = Read<T>>
where
    F: Format<Records: Iterator<Item = Found<T>>>,
{
    Records::new(blocks, format).map(|record| record.map_err(|bad| bad.error.into()))
}

/// Records and bad ones. Only where a file cannot be read on it ends the reading.
fn any<T, F>(blocks: Vec<Block>, format: F) -> impl Iterator<Item = Read<Found<T>>>
where
    F: Format<Records: Iterator<Item = Found<T>>>,
{
    Records::new(blocks, format).map(|record| match record {
        Err(bad) if !bad.error.is_bad_record() => Err(bad.error.into()),
        record => Ok(record),
    })
}

/// What reads a partition may fail when it opens a file, and at each record.
type Reading<I> = Result<I, KeepError<FileError>>;

/// A record, or the error of the file.
type Read<T> = Result<T, KeepError<FileError>>;

impl Bag<String> {
    /// The lines of text files. A partition is a file, or a part of one ([`Files::blocksize`]), or several
    /// ([`Files::files_per_partition`]).
    ///
    /// The lines have no line ends, unless [`Files::keep_line_ends`] asks for them. A line that is not text in the files'
    /// encoding fails the task, with a [`FileError`]: see also [`Files::lossy`] and
    /// [`read_text_with_bad_records`](Self::read_text_with_bad_records). Where a function only looks at the lines,
    /// [`read_with`](Bag::read_with) spares a string for each.
    ///
    /// # Errors
    /// Where the files cannot be listed or split, see [`Files::blocks`].
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path().display();
    /// std::fs::write(dir.path().join("a.txt"), "to be or\nnot to be\n")?;
    /// let lines = Bag::read_text(format!("{folder}/*.txt"))?;
    /// assert_eq!(lines.compute(&Client::sync())?, ["to be or", "not to be"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_text(files: impl Into<Files>) -> Result<Self> {
        fn read_text(blocks: Vec<Block>) -> Reading<impl Iterator<Item = Read<String>>> {
            Ok(all(blocks, Text))
        }
        Ok(Self::try_generate(read_text, files.into().partitions()?))
    }

    /// The lines of text files, each with the absolute path or URL of the file it is from; otherwise as
    /// [`read_text`](Self::read_text).
    ///
    /// Lines of one block share the text of the path.
    ///
    /// # Errors
    /// As [`read_text`](Self::read_text).
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path().display();
    /// std::fs::write(dir.path().join("a.txt"), "to be\nor\n")?;
    /// std::fs::write(dir.path().join("b.txt"), "not to be\n")?;
    /// let lines = Bag::read_text_with_path(format!("{folder}/*.txt"))?;
    /// let counts = lines.map(|(_, path)| path).frequencies().compute(&Client::sync())?;
    /// assert!(counts[0].0.ends_with("a.txt") && counts[0].1 == 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_text_with_path(files: impl Into<Files>) -> Result<Bag<(String, Arc<str>)>> {
        fn read_text_with_path(blocks: Vec<Block>) -> Reading<impl Iterator<Item = Read<(String, Arc<str>)>>> {
            Ok(blocks.into_iter().flat_map(|block| {
                let path: Arc<str> = block.path().into();
                all(vec![block], Text).map(move |line| line.map(|line| (line, Arc::clone(&path))))
            }))
        }
        Ok(Bag::try_generate(read_text_with_path, files.into().partitions()?))
    }

    /// The lines of text files, and those that are not text in the files' encoding; see
    /// [`read_json_with_bad_records`](Bag::read_json_with_bad_records).
    ///
    /// # Errors
    /// As [`read_text`](Self::read_text).
    pub fn read_text_with_bad_records(files: impl Into<Files>) -> Result<(Self, Bag<BadRecord>)> {
        fn read_text(blocks: Vec<Block>) -> Reading<impl Iterator<Item = Read<Found<String>>>> {
            Ok(any(blocks, Text))
        }
        Ok(Bag::try_generate(read_text, files.into().partitions()?).sift())
    }

    /// The old name of [`read_text_with_bad_records`](Self::read_text_with_bad_records).
    ///
    /// # Errors
    /// As [`read_text`](Self::read_text).
    #[deprecated(since = "0.1.0", note = "it is called `read_text_with_bad_records` now")]
    pub fn read_text_aside(files: impl Into<Files>) -> Result<(Self, Bag<BadRecord>)> {
        Self::read_text_with_bad_records(files)
    }
}

impl<T: Data> Bag<T> {
    /// The values in files of JSON lines: each line one value. Blank lines are skipped.
    ///
    /// `T` is any type with `Deserialize`, or [`Json`](crate::Json) for any value (not `serde_json::Value` itself, which cannot be
    /// read back in another process). A line that is no such value fails the task
    /// with a [`FileError`], which tells file, line and byte; [`read_json_with_bad_records`](Self::read_json_with_bad_records) does not fail.
    ///
    /// # Errors
    /// Where the files cannot be listed or split, see [`Files::blocks`].
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use swath::{Bag, Client};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Person {
    ///     name: String,
    ///     age: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("people.jsonl");
    /// std::fs::write(&path, "{\"name\": \"Ada\", \"age\": 36}\n{\"name\": \"Bob\", \"age\": 12}\n")?;
    /// let adults = Bag::<Person>::read_json(&path)?.filter(|p| p.age >= 18).map(|p| p.name);
    /// assert_eq!(adults.compute(&Client::sync())?, ["Ada"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_json(files: impl Into<Files>) -> Result<Self> {
        fn read_json<T: Data>(blocks: Vec<Block>) -> Reading<impl Iterator<Item = Read<T>>> {
            Ok(all(blocks, JsonLines(PhantomData)))
        }
        Ok(Self::try_generate(read_json::<T>, files.into().partitions()?))
    }

    /// The values in files of JSON lines, and the lines that are none.
    ///
    /// Use the second bag to count the bad records, to write them somewhere, or not at all: then they are just skipped. To
    /// read the files once for both, compute what is made of them together. Files that cannot be read are errors of
    /// tasks here, too.
    ///
    /// # Errors
    /// As [`read_json`](Self::read_json).
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("numbers.jsonl");
    /// std::fs::write(&path, "1\ntwo\n3\n")?;
    /// let (numbers, bad) = Bag::<i64>::read_json_with_bad_records(&path)?;
    /// let (total, skipped) = Client::sync().compute((&numbers.sum(), &bad.count()))?;
    /// assert_eq!((total, skipped), (4, 1));
    /// let bad = bad.compute(&Client::sync())?;
    /// assert_eq!((bad[0].text.as_str(), bad[0].error.place().line), ("two", Some(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_json_with_bad_records(files: impl Into<Files>) -> Result<(Self, Bag<BadRecord>)> {
        fn read_json<T: Data>(blocks: Vec<Block>) -> Reading<impl Iterator<Item = Read<Found<T>>>> {
            Ok(any(blocks, JsonLines(PhantomData)))
        }
        Ok(Bag::try_generate(read_json::<T>, files.into().partitions()?).sift())
    }

    /// The old name of [`read_json_with_bad_records`](Self::read_json_with_bad_records).
    ///
    /// # Errors
    /// As [`read_json`](Self::read_json).
    #[deprecated(since = "0.1.0", note = "it is called `read_json_with_bad_records` now")]
    pub fn read_json_aside(files: impl Into<Files>) -> Result<(Self, Bag<BadRecord>)> {
        Self::read_json_with_bad_records(files)
    }

    /// The records of CSV files.
    ///
    /// `T` is any type with `Deserialize`: a struct with the names of columns, a map, or a tuple or list of fields in their
    /// order. A record that is none fails the task with a [`FileError`], which tells file, line and byte;
    /// [`read_csv_with_bad_records`](Self::read_csv_with_bad_records) does not fail.
    ///
    /// A quoted field may contain line ends, also with a blocksize: then a task for each block counts its quotes first, so
    /// that the next one knows where its records begin ([`Csv::single_lines`] spares that), and each block reads the
    /// first record of its file for the names. A field whose closing quote is missing makes its record bad.
    ///
    /// # Errors
    /// Where the files cannot be listed or split, see [`Files::blocks`].
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use swath::bag::Csv;
    /// use swath::{Bag, Client};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Tree {
    ///     kind: String,
    ///     height: f64,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("trees.csv");
    /// std::fs::write(&path, "id,kind,height\n1,oak,21.5\n2,ash,18\n")?;
    /// let trees = Bag::<Tree>::read_csv(&path, Csv::new())?;
    /// assert_eq!(trees.map(|t| t.height).sum().compute(&Client::sync())?, 39.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_csv(files: impl Into<Files>, format: Csv) -> Result<Self> {
        fn read_csv<T: Data>(blocks: Vec<Block>, format: CsvFormat<T>) -> Reading<impl Iterator<Item = Read<T>>> {
            Ok(all(blocks, format))
        }
        Self::of_csv(read_csv::<T>, &files.into(), format)
    }

    /// The records of CSV files, and those that are bad: they are none of the type, or have too few or too many fields, or
    /// are not text in the files' encoding. See [`read_json_with_bad_records`](Self::read_json_with_bad_records).
    ///
    /// # Errors
    /// As [`read_csv`](Self::read_csv).
    pub fn read_csv_with_bad_records(files: impl Into<Files>, format: Csv) -> Result<(Self, Bag<BadRecord>)> {
        fn read_csv<T: Data>(
            blocks: Vec<Block>,
            format: CsvFormat<T>,
        ) -> Reading<impl Iterator<Item = Read<Found<T>>>> {
            Ok(any(blocks, format))
        }
        Ok(Bag::of_csv(read_csv::<T>, &files.into(), format)?.sift())
    }

    /// The old name of [`read_csv_with_bad_records`](Self::read_csv_with_bad_records).
    ///
    /// # Errors
    /// As [`read_csv`](Self::read_csv).
    #[deprecated(since = "0.1.0", note = "it is called `read_csv_with_bad_records` now")]
    pub fn read_csv_aside(files: impl Into<Files>, format: Csv) -> Result<(Self, Bag<BadRecord>)> {
        Self::read_csv_with_bad_records(files, format)
    }

    /// What a function makes of the lines of each block of text files.
    ///
    /// The function reads the lines as `&str`, without a string for each: the fastest way where only a little is made of
    /// many lines. It gives a list, or another iterator.
    ///
    /// # Errors
    /// Where the files cannot be listed or split, see [`Files::blocks`].
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use swath::files::{FileError, Lines};
    /// use swath::{Bag, Client};
    ///
    /// fn count_words(lines: &mut Lines) -> Result<HashMap<String, u64>, FileError> {
    ///     let mut counts = HashMap::new();
    ///     lines.for_each(|line| {
    ///         for word in line.split_whitespace() {
    ///             match counts.get_mut(word) {
    ///                 Some(n) => *n += 1,
    ///                 None => drop(counts.insert(word.to_string(), 1)),
    ///             }
    ///         }
    ///     })?;
    ///     Ok(counts)
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// std::fs::write(&path, "to be or\nnot to be\n")?;
    /// let words = Bag::read_with(&path, count_words)?;
    /// assert_eq!(words.filter(|(_, n)| *n > 1).count().compute(&Client::sync())?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_with<F, I>(files: impl Into<Files>, function: F) -> Result<Self>
    where
        F: Fn(&mut Lines) -> Result<I, FileError> + Copy + Send + 'static,
        I: IntoIterator<Item = T, IntoIter: Send + 'static> + 'static,
    {
        let read = move |block: Block| block.lines().and_then(|mut lines| function(&mut lines));
        let stage = move |blocks: Arc<Vec<Block>>, _: Arc<()>| {
            let made = Arc::unwrap_or_clone(blocks).into_iter().map(move |block| read(block).map_err(KeepError));
            unfailing(made).flatten()
        };
        let inputs = (Input::each(files.into().partitions()?), Input::shared(()));
        Ok(Self::new(Layer::over(inputs).in_partitions().named_after::<F>().elements(stage)))
    }
}

impl<E: Data> Bag<E> {
    /// What a function reads from each partition of CSV files.
    fn of_csv<T, F, I>(function: F, files: &Files, csv: Csv) -> Result<Self>
    where
        T: Data,
        F: Fn(Vec<Block>, CsvFormat<T>) -> Reading<I> + Copy + Send + 'static,
        I: Iterator<Item = Read<E>> + Send + 'static,
    {
        let partitions = files.csv_partitions()?;
        let read = move |blocks: Arc<Vec<Block>>, csv: Arc<Csv>, in_quotes: Arc<bool>| {
            let format = CsvFormat::new(Arc::unwrap_or_clone(csv), *in_quotes);
            let elements = function(Arc::unwrap_or_clone(blocks), format).map_err(pass::fail).ok();
            unfailing(elements.into_iter().flatten())
        };
        let in_quotes = match csv.needs_scan() && partitions.iter().flatten().any(|block| block.range().start > 0) {
            true => Input::each(quotes_before(&partitions, &csv)),
            false => Input::shared(false),
        };
        let inputs = (Input::each(partitions), Input::shared(csv), in_quotes);
        Ok(Self::new(Layer::over(inputs).in_partitions().named_after::<F>().elements(read)))
    }
}

/// Whether a quoted field is open before each block of files that are split. A block needs only those before it, so the first
/// ones are read at once.
fn quotes_before(partitions: &[Vec<Block>], csv: &Csv) -> Vec<Delayed<bool>> {
    fn count_quotes((block, csv): (Block, Csv)) -> Result<QuoteEffect, FileError> {
        csv.scan(&block)
    }
    fn quotes_behind(is_open: bool, (after_closed, after_open): QuoteEffect) -> bool {
        if is_open { after_open } else { after_closed }
    }
    let none = value(false);
    let mut before = none.clone();
    let mut all = Vec::with_capacity(partitions.len());
    let mut blocks = partitions.iter().flatten().peekable();
    while let Some(block) = blocks.next() {
        all.push(before.clone());
        // The one behind it belongs to the same file where it does not begin one.
        before = match blocks.peek().is_some_and(|next| next.range().start > 0) {
            true => {
                let effect = try_delayed(count_quotes).keep_error().pure().call((block.clone(), csv.clone()));
                delayed(quotes_behind).pure().call(&before, effect)
            }
            false => none.clone(),
        };
    }
    all
}

impl<T: Data> Bag<Found<T>> {
    fn sift(&self) -> (Bag<T>, Bag<BadRecord>) {
        fn good<T>(found: Found<T>) -> Option<T> {
            found.ok()
        }
        fn bad<T>(found: Found<T>) -> Option<BadRecord> {
            found.err()
        }
        (self.filter_map(good::<T>), self.filter_map(bad::<T>))
    }
}
