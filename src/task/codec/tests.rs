//! Values of all kinds there and back, and bytes that are no values.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

fn bytes_of<T: Data>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes, usize::MAX).expect("encodes");
    let mut written = Vec::new();
    encode_to(value, &mut written).expect("encodes");
    assert_eq!(bytes, written);
    bytes
}

fn there_and_back<T: Data + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = bytes_of(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    // Neither fewer bytes are a value, nor more.
    if let Some(short) = bytes.len().checked_sub(1) {
        assert!(decode::<T>(&bytes[..short]).is_err());
    }
    assert!(decode::<T>(&[&bytes[..], &[0]].concat()).is_err());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f32),
    Line(i16, i16),
    Polygon { corners: Vec<(f64, f64)>, name: Option<String>, closed: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Picture {
    name: String,
    image: Vec<u8>,
    rows: Vec<Vec<f32>>,
    shapes: VecDeque<Shape>,
    columns: BTreeMap<String, Vec<f64>>,
    flags: Vec<bool>,
    letter: char,
    marks: [i8; 3],
    parent: Option<Box<Picture>>,
    unit: (),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let number = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let polygon = (prop::collection::vec((number, number), 0..5), any::<Option<String>>(), any::<bool>());
    prop_oneof![
        Just(Shape::Point),
        (prop::num::f32::NORMAL).prop_map(Shape::Circle),
        any::<(i16, i16)>().prop_map(|(a, b)| Shape::Line(a, b)),
        polygon.prop_map(|(corners, name, closed)| Shape::Polygon { corners, name, closed }),
    ]
}

fn single_pictures() -> impl Strategy<Value = Picture> {
    let floats = || prop::collection::vec(prop::num::f32::NORMAL, 0..300);
    let columns =
        prop::collection::btree_map(any::<String>(), prop::collection::vec(prop::num::f64::NORMAL, 0..50), 0..4);
    let shapes = prop::collection::vec_deque(shapes(), 0..6);
    let lists = (any::<Vec<u8>>(), prop::collection::vec(floats(), 0..4), shapes, columns, any::<Vec<bool>>());
    (any::<String>(), lists, any::<char>(), any::<[i8; 3]>()).prop_map(
        |(name, (image, rows, shapes, columns, flags), letter, marks)| Picture {
            name,
            image,
            rows,
            shapes,
            columns,
            flags,
            letter,
            marks,
            parent: None,
            unit: (),
        },
    )
}

fn pictures() -> impl Strategy<Value = Picture> {
    (single_pictures(), prop::option::of(single_pictures()))
        .prop_map(|(child, parent)| Picture { parent: parent.map(Box::new), ..child })
}

proptest! {
    #[test]
    fn pictures_come_back(picture in pictures()) {
        there_and_back(&picture);
        there_and_back(&vec![Some(picture.clone()), None, Some(picture)]);
    }

    #[test]
    fn lists_of_numbers_come_back(
        a in any::<Vec<u8>>(), b in any::<Vec<i16>>(), c in any::<Vec<u32>>(), d in any::<Vec<i64>>(),
        e in any::<Vec<u128>>(), f in any::<Vec<usize>>(), g in any::<Vec<char>>(), h in any::<Vec<bool>>(),
        i in any::<Vec<(u64, i32)>>(), j in any::<VecDeque<u16>>(), k in any::<HashMap<u8, Vec<u64>>>(),
    ) {
        there_and_back(&a);
        there_and_back(&b);
        there_and_back(&c);
        there_and_back(&d);
        there_and_back(&e);
        there_and_back(&f);
        there_and_back(&g);
        there_and_back(&h);
        there_and_back(&i);
        there_and_back(&j);
        there_and_back(&k);
        there_and_back(&Arc::<[i64]>::from(d.clone()));
        there_and_back(&d.into_boxed_slice());
    }

    /// A list in one piece is written as one whose elements are written one by one.
    #[test]
    fn a_run_is_no_other_format(numbers in any::<Vec<i32>>()) {
        let one_by_one: VecDeque<i32> = numbers.iter().copied().collect();
        let bytes = bytes_of(&numbers);
        prop_assert_eq!(&bytes, &bytes_of(&one_by_one));
        prop_assert_eq!(decode::<VecDeque<i32>>(&bytes), Ok(one_by_one));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
        let _ = decode::<Picture>(&bytes);
        let _ = decode::<Vec<Shape>>(&bytes);
        let _ = decode::<Vec<Vec<u64>>>(&bytes);
        let _ = decode::<HashMap<String, Vec<bool>>>(&bytes);
        let _ = decode::<(Option<char>, Vec<String>, crate::Buffer<u16>)>(&bytes);
        let _ = decode::<crate::Json>(&bytes);
    }

    /// What is nearly right goes deeper into the decoder than random bytes do.
    #[test]
    fn damaged_bytes_are_a_value_or_an_error(picture in pictures(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = bytes_of(&picture);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode::<Picture>(&bytes);
        let _ = decode::<Picture>(&bytes[..at]);
    }
}

#[test]
fn no_more_memory_is_taken_than_there_are_bytes() {
    // 2^60 elements are claimed, and none is there.
    let claim = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    assert!(decode::<Vec<u8>>(&claim).is_err());
    assert!(decode::<Vec<u64>>(&claim).is_err());
    assert!(decode::<Vec<Vec<u64>>>(&claim).is_err());
    assert!(decode::<Vec<()>>(&claim).is_err());
    assert!(decode::<String>(&claim).is_err());
    assert!(decode::<HashMap<u8, u8>>(&claim).is_err());
    assert_eq!(decode::<Vec<()>>(&[5]), Ok(vec![(); 5]));
    // More bits than a length has.
    assert!(decode::<String>(&[0xff; 11]).is_err());
}

#[test]
fn a_list_of_units_costs_its_length() {
    let began = std::time::Instant::now();
    let bytes = [0x80, 0x80, 0x80, 0x80, 0x08];
    let units = decode::<Vec<()>>(&bytes).unwrap_or_default();
    assert_eq!(units.len(), 1 << 31);
    let mut again = Vec::new();
    assert!(encode(&units, &mut again, usize::MAX).is_ok());
    assert_eq!(again, bytes);
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "each was counted");
}

/// A type with a visitor of its own is asked, though it makes a list of numbers.
#[test]
fn a_visitor_of_its_own_is_asked() {
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Doubled(Vec<u8>);

    impl<'de> Deserialize<'de> for Doubled {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Vec<u8>;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("numbers")
                }

                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
                    let mut doubled = Vec::new();
                    while let Some(number) = list.next_element::<u8>()? {
                        doubled.push(2 * number);
                    }
                    Ok(doubled)
                }
            }
            deserializer.deserialize_seq(Visitor).map(Doubled)
        }
    }

    assert_eq!(decode::<Doubled>(&bytes_of(&Doubled(vec![1, 2, 3]))), Ok(Doubled(vec![2, 4, 6])));
}

#[test]
fn lists_of_unknown_length_are_refused() {
    #[derive(Clone, Deserialize)]
    struct Even(Vec<u8>);

    impl Serialize for Even {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.iter().filter(|n| *n % 2 == 0))
        }
    }

    let refused = encode(&Even(vec![1, 2]), &mut Vec::new(), usize::MAX).expect_err("how long is not known");
    assert!(matches!(&refused, Refused::Failed(reason) if reason.contains("how long it is")), "{refused}");
}

#[test]
fn a_value_comes_back() {
    let value = Value::new(vec![String::from("a"), String::from("b")]);
    let codec = CodecOf::<Vec<String>>::CODEC;
    let mut out = vec![7];
    codec.encode(&value, &mut out, 100).expect("encodes");
    let back = codec.decode(&out[1..]).expect("decodes");
    assert_eq!(back.take::<Vec<String>>(), Some(vec!["a".to_string(), "b".to_string()]));
}

#[test]
fn too_long_leaves_the_output_as_it_was() {
    let mut out = vec![1, 2];
    assert_eq!(encode(&"0123456789".to_string(), &mut out, 5), Err(Refused::TooLong));
    assert_eq!(out, [1, 2]);
}

#[test]
fn types_that_ask_the_data_are_told_what_to_do() {
    let mut bytes = Vec::new();
    encode(&serde_json::json!([1]), &mut bytes, 100).expect("encodes");
    let error = decode::<serde_json::Value>(&bytes).expect_err("not to be read");
    assert!(error.contains("take `swath::bag::Json`"), "{error}");
}

#[test]
fn rubbish_is_refused() {
    assert!(decode::<Vec<String>>(&[200, 1, 2]).is_err());
    assert!(decode::<u8>(&[1, 2]).is_err(), "bytes left over");
    assert!(decode::<Vec<u64>>(&[255, 255, 255, 255, 255, 255, 255, 255, 1]).is_err());
    assert!(decode::<Vec<bool>>(&[3, 0, 1, 2]).is_err(), "2 is no `bool`");
    assert!(decode::<Vec<char>>(&[1, 0, 0xd8, 0, 0]).is_err(), "no `char`");
}
