//! How much memory a value takes.
//!
//! Every value can be serialised, so every value can be walked: the sizer is a serialiser that writes nothing and adds
//! up what it meets. That makes nested types and users' types say their size without another trait to implement. A
//! type that serialises as less than it holds says so with [`report_size`].

use crate::ipc::out_of_band;
use crate::task::codec::run::number_bytes;
use crate::task::depth;
use serde::ser::{self, Serialize};
use std::cell::Cell;
use std::fmt;

/// How many elements of a sequence are sampled; the others are taken to be like them.
const SAMPLED: usize = 1024;
/// What a list, a text or a map takes beside its contents.
const HEADER: u64 = 24;

/// About how many bytes of memory a value takes, with everything it owns.
///
/// Exact for numbers, texts, [`Buffer`](crate::Buffer)s and lists of them that are short; of a list of more than 1024
/// elements, about as many are sampled, spread over all of it, and the others taken to be like them. Elements with
/// large buffers are all measured. A buffer that occurs several times in a value counts once. What lies in a file, as
/// results that were moved to disk and are read from there, counts nothing.
///
/// Takes microseconds, and about a nanosecond for each element of a long list. The value is walked with its
/// `Serialize`; see [`report_size`] for types of which that does not tell the size.
///
/// ```
/// let words = vec!["alpha".to_string(), "beta".to_string()];
/// assert_eq!(swath::memory::size_of_value(&words), 24 + (24 + 5) + (24 + 4));
///
/// let rows = swath::Buffer::<f64>::from_fn(1_000_000, |i| i as f64);
/// assert!(swath::memory::size_of_value(&(&rows, &rows)) < 8_001_000); // one buffer, met twice
/// ```
pub fn size_of_value<T: Serialize + ?Sized>(value: &T) -> u64 {
    let (bytes, beside) = out_of_band::size_with(|| {
        let mut bytes = 0;
        // A type may refuse to be serialised; what was met until then is still the best estimate.
        let _ = value.serialize(Sizer { bytes: &mut bytes, depth: 0 });
        bytes
    });
    (bytes + beside.reported).max(size_of_val(value) as u64)
}

/// What a value takes, and what sending it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// As [`size_of_value`] tells.
    pub(crate) bytes: u64,
    /// Bytes that are written and read one by one when the value is sent: all but those of large buffers.
    pub(crate) encoded: u64,
}

thread_local! {
    /// Bytes of the large buffers that the surrounding sizing has met.
    static IN_BUFFERS: Cell<u64> = const { Cell::new(0) };
}

/// The size of a value, and how much of it is not in large buffers.
pub(crate) fn measure<T: Serialize + ?Sized>(value: &T) -> Size {
    let outer = IN_BUFFERS.replace(0);
    let bytes = size_of_value(value);
    let in_buffers = IN_BUFFERS.replace(outer);
    Size { bytes, encoded: bytes.saturating_sub(in_buffers) }
}

/// Adds to the size of the value that is being sized, from within its `Serialize`. Does nothing at other times.
///
/// For types that hold more memory than they write, such as one that serialises a file's name and holds its contents.
///
/// ```
/// use serde::{Deserialize, Serialize, Serializer};
///
/// #[derive(Clone, Deserialize)]
/// struct Model {
///     path: String,
///     #[serde(skip)]
///     weights: Vec<f32>,
/// }
///
/// impl Serialize for Model {
///     fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
///         swath::memory::report_size(4 * self.weights.len() as u64);
///         self.path.serialize(s)
///     }
/// }
///
/// let model = Model { path: "m.bin".to_string(), weights: vec![0.0; 1000] };
/// assert!(swath::memory::size_of_value(&model) >= 4000);
/// ```
pub fn report_size(bytes: u64) {
    out_of_band::report(bytes);
}

/// Adds up what it is given.
struct Sizer<'a> {
    bytes: &'a mut u64,
    /// How deep the value is nested.
    depth: u32,
}

impl Sizer<'_> {
    /// What is in a value that may contain values of its own type.
    #[inline]
    fn inner(mut self) -> Result<Self, NotSizable> {
        self.depth += 1;
        if depth::fits(self.depth) { Ok(self) } else { Err(NotSizable) }
    }

    /// One of the parts of the value.
    fn part(&mut self) -> Sizer<'_> {
        Sizer { bytes: &mut *self.bytes, depth: self.depth }
    }
}

/// What a type says that cannot be serialised.
#[derive(Debug)]
struct NotSizable;

impl fmt::Display for NotSizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be serialised")
    }
}

impl std::error::Error for NotSizable {}

impl ser::Error for NotSizable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($name:ident: $t:ty),*) => {$(
        #[inline]
        fn $name(self, _: $t) -> Result<(), NotSizable> {
            *self.bytes += size_of::<$t>() as u64;
            Ok(())
        }
    )*};
}

impl<'a> ser::Serializer for Sizer<'a> {
    type Ok = ();
    type Error = NotSizable;
    type SerializeSeq = ElementsSizer<'a>;
    type SerializeTuple = PartsSizer<'a>;
    type SerializeTupleStruct = PartsSizer<'a>;
    type SerializeTupleVariant = PartsSizer<'a>;
    type SerializeMap = ElementsSizer<'a>;
    type SerializeStruct = PartsSizer<'a>;
    type SerializeStructVariant = PartsSizer<'a>;

    numbers!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char
    );

    fn serialize_str(self, text: &str) -> Result<(), NotSizable> {
        *self.bytes += HEADER + text.len() as u64;
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), NotSizable> {
        *self.bytes += HEADER + bytes.len() as u64;
        if bytes.len() >= out_of_band::LARGE {
            IN_BUFFERS.set(IN_BUFFERS.get() + bytes.len() as u64);
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NotSizable> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotSizable> {
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Result<(), NotSizable> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotSizable> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), NotSizable> {
        *self.bytes += 1;
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotSizable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotSizable> {
        value.serialize(self.inner()?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ElementsSizer<'a>, NotSizable> {
        Ok(ElementsSizer::new(self.inner()?, len))
    }

    fn collect_seq<I>(self, items: I) -> Result<(), NotSizable>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        if let Some(bytes) = number_bytes(&items) {
            *self.bytes += HEADER + bytes as u64;
            return Ok(());
        }
        let items = items.into_iter();
        let len = match items.size_hint() {
            (low, Some(high)) if low == high => Some(low),
            _ => None,
        };
        let mut list = self.serialize_seq(len)?;
        for item in items {
            ser::SerializeSeq::serialize_element(&mut list, &item)?;
        }
        ser::SerializeSeq::end(list)
    }

    fn serialize_tuple(self, _: usize) -> Result<PartsSizer<'a>, NotSizable> {
        Ok(PartsSizer(self))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<PartsSizer<'a>, NotSizable> {
        Ok(PartsSizer(self))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<PartsSizer<'a>, NotSizable> {
        Ok(PartsSizer(self.inner()?))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<ElementsSizer<'a>, NotSizable> {
        Ok(ElementsSizer::new(self.inner()?, len))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<PartsSizer<'a>, NotSizable> {
        Ok(PartsSizer(self))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<PartsSizer<'a>, NotSizable> {
        Ok(PartsSizer(self.inner()?))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), NotSizable> {
        use fmt::Write;
        struct Count(u64);
        impl Write for Count {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += text.len() as u64;
                Ok(())
            }
        }
        let mut count = Count(0);
        write!(count, "{value}").map_err(|_| NotSizable)?;
        *self.bytes += HEADER + count.0;
        Ok(())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The fields of a struct or tuple: all are measured.
struct PartsSizer<'a>(Sizer<'a>);

macro_rules! parts {
    ($($trait:ident $method:ident),*) => {$(
        impl ser::$trait for PartsSizer<'_> {
            type Ok = ();
            type Error = NotSizable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotSizable> {
                value.serialize(self.0.part())
            }

            fn end(self) -> Result<(), NotSizable> {
                Ok(())
            }
        }
    )*};
}
parts!(SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for PartsSizer<'_> {
            type Ok = ();
            type Error = NotSizable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), NotSizable> {
                value.serialize(self.0.part())
            }

            fn end(self) -> Result<(), NotSizable> {
                Ok(())
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

/// The elements of a list, or the entries of a map. The first two are sampled, and then one of every `stride`, at a
/// random index, so that a pattern in the list does not decide which are sampled.
struct ElementsSizer<'a> {
    total: &'a mut u64,
    depth: u32,
    stride: usize,
    seen: usize,
    sampled: usize,
    /// The index of the next one to be sampled.
    next: usize,
    /// Whether the one that was met last is sampled.
    sampling: bool,
    /// The state of the random choice.
    dice: u32,
    bytes: u64,
    /// What had been met beside the written values before this list.
    before: out_of_band::Beside,
}

impl<'a> ElementsSizer<'a> {
    fn new(list: Sizer<'a>, len: Option<usize>) -> Self {
        Self {
            total: list.bytes,
            depth: list.depth,
            stride: len.unwrap_or(0).div_ceil(SAMPLED).max(1),
            seen: 0,
            sampled: 0,
            next: 0,
            sampling: false,
            dice: 1,
            bytes: 0,
            before: out_of_band::beside(),
        }
    }

    /// Whether the next element is sampled.
    #[inline]
    fn turn(&mut self) -> bool {
        self.sampling = self.seen == self.next;
        if self.sampling {
            self.sampled += 1;
            self.choose();
        }
        self.seen += 1;
        self.sampling
    }

    fn choose(&mut self) {
        // Nobody has so many elements with large buffers that measuring all of them takes long, and only that
        // tells which of the buffers are the same.
        if self.sampled == 2 && out_of_band::beside().large > self.before.large {
            self.stride = 1;
        }
        if self.stride == 1 || self.sampled == 1 {
            self.next += 1;
            return;
        }
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let block = self.seen - self.seen % self.stride + self.stride;
        self.next = block + ((u64::from(self.dice) * self.stride as u64) >> 32) as usize;
    }

    fn close(self) -> Result<(), NotSizable> {
        let (n, seen) = (self.sampled as u64, self.seen as u64);
        let extended = |bytes: u64| (bytes as f64 / n as f64 * seen as f64) as u64;
        *self.total += HEADER;
        if n == seen {
            *self.total += self.bytes;
        } else if n > 0 {
            *self.total += extended(self.bytes);
            // What the others would have reported.
            let reported = out_of_band::beside().reported - self.before.reported;
            out_of_band::report(extended(reported).saturating_sub(reported));
        }
        Ok(())
    }
}

impl ser::SerializeSeq for ElementsSizer<'_> {
    type Ok = ();
    type Error = NotSizable;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotSizable> {
        if self.turn() { value.serialize(Sizer { bytes: &mut self.bytes, depth: self.depth }) } else { Ok(()) }
    }

    fn end(self) -> Result<(), NotSizable> {
        self.close()
    }
}

impl ser::SerializeMap for ElementsSizer<'_> {
    type Ok = ();
    type Error = NotSizable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotSizable> {
        if self.turn() { key.serialize(Sizer { bytes: &mut self.bytes, depth: self.depth }) } else { Ok(()) }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotSizable> {
        if self.sampling { value.serialize(Sizer { bytes: &mut self.bytes, depth: self.depth }) } else { Ok(()) }
    }

    fn end(self) -> Result<(), NotSizable> {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    #[derive(Serialize, Deserialize)]
    struct Row {
        id: u64,
        name: String,
        tags: Vec<String>,
        shape: Shape,
        next: Option<Box<Row>>,
    }

    #[derive(Serialize, Deserialize)]
    enum Shape {
        Point,
        Square(f64),
        Box { width: f64, height: f32 },
    }

    #[test]
    fn flat_and_nested_values() {
        assert_eq!(size_of_value(&7_u64), 8);
        assert_eq!(size_of_value("abc"), 27);
        assert_eq!(size_of_value(&vec![1.0_f64; 1_000_000]), 8_000_024);
        assert_eq!(size_of_value(&vec![vec![0_u8; 1000]; 10]), 24 + 10 * 1024);
        assert_eq!(size_of_value(&HashMap::from([(1_u32, "x".to_string())])), 24 + 4 + 25);
        assert_eq!(size_of_value(&BTreeMap::from([(1_u32, "x".repeat(100))])), 24 + 4 + 124);
        assert_eq!(size_of_value(&Arc::new(vec![0_u16; 500])), 1024);
        let row = Row {
            id: 1,
            name: "n".repeat(50),
            tags: vec!["t".repeat(10); 3],
            shape: Shape::Box { width: 1.0, height: 2.0 },
            next: Some(Box::new(Row {
                id: 2,
                name: String::new(),
                tags: vec![],
                shape: Shape::Square(1.0),
                next: None,
            })),
        };
        assert_eq!(size_of_value(&row), (8 + 74 + 24 + 3 * 34 + 12) + (8 + 24 + 24 + 8));
        assert!(size_of_value(&Shape::Point) >= 1);
    }

    #[test]
    fn a_buffer_counts_once_and_its_views_by_their_length() {
        let buffer = Buffer::<u64>::from_fn(100_000, |i| i as u64);
        let size = size_of_value(&buffer);
        assert!((800_000..800_100).contains(&size), "{size}");
        let twice = size_of_value(&vec![buffer.clone(), buffer.clone()]);
        assert!((800_000..800_200).contains(&twice), "{twice}");
        let part = size_of_value(&buffer.slice(..50_000));
        assert!((400_000..400_100).contains(&part), "{part}");
    }

    #[test]
    fn long_lists_are_estimated_well() {
        let skewed: Vec<String> = (0..100_000).map(|i| "x".repeat(i / 1000)).collect();
        let exact: usize = 24 + skewed.iter().map(|s| 24 + s.len()).sum::<usize>();
        let size = size_of_value(&skewed) as f64;
        assert!((size / exact as f64 - 1.0).abs() < 0.02, "{size} for {exact}");
    }

    #[test]
    fn a_pattern_in_a_list_does_not_deceive() {
        for period in [2, 3, 8, 98] {
            let rows: Vec<String> = (0..100_352).map(|i| "x".repeat(if i % period == 0 { 1000 } else { 0 })).collect();
            let exact: usize = 24 + rows.iter().map(|s| 24 + s.len()).sum::<usize>();
            let size = size_of_value(&rows) as f64;
            assert!((size / exact as f64 - 1.0).abs() < 0.5, "every {period}th: {size} for {exact}");
        }
    }

    struct Handle;

    impl Serialize for Handle {
        fn serialize<S: ser::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            report_size(5000);
            s.serialize_unit()
        }
    }

    #[test]
    fn what_is_reported_in_long_lists_counts_for_all_of_them() {
        let close = |size: u64, exact: u64| assert!(size.abs_diff(exact) <= exact / 100, "{size} for {exact}");
        let list = |n: usize| std::iter::repeat_with(|| Handle).take(n).collect::<Vec<_>>();
        close(size_of_value(&list(1000)), 5_000_000);
        close(size_of_value(&list(100_000)), 500_000_000);
        close(size_of_value(&(list(100_000), Handle, list(50_000))), 750_000_000);
        close(size_of_value(&(0..5000).map(|_| list(3000)).collect::<Vec<_>>()), 5000 * 3000 * 5000);
        close(size_of_value(&(0..5000).map(|i| (i, list(7))).collect::<BTreeMap<_, _>>()), 5000 * 7 * 5000);
    }

    #[test]
    fn large_buffers_in_long_lists_are_told_apart() {
        let one = Buffer::<u8>::from(vec![1; 100_000]);
        let size = size_of_value(&vec![one.clone(); 50_000]);
        assert!(size < 3 * 100_000 + 50_000 * 100, "{size}");
        let many: Vec<_> = (0..3000).map(|i| (i, one.slice(i..i + 70_000))).collect();
        let size = size_of_value(&many);
        assert!(size.abs_diff(3000 * 70_000) < 3000 * 100, "{size}");
    }

    #[test]
    fn what_is_reported_counts_only_while_sizing() {
        assert_eq!(size_of_value(&(Handle, Handle)), 10_000);
        report_size(1 << 40);
        assert_eq!(size_of_value(&Handle), 5000);
        let mut json = Vec::new();
        serde_json::to_writer(&mut json, &Handle).expect("writes");
        assert_eq!(size_of_value(&Handle), 5000);
    }

    proptest! {
        #[test]
        fn lists_of_texts_are_exact_up_to_a_thousand(texts in proptest::collection::vec(".{0,40}", 0..1000)) {
            let exact: usize = 24 + texts.iter().map(|t| 24 + t.len()).sum::<usize>();
            prop_assert_eq!(size_of_value(&texts), exact as u64);
        }
    }
}
