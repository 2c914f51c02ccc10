//! Numbers in chunks of a fixed size.

use std::fmt;
use std::sync::Arc;
use swath::collection::{Chunks, Collection, Elements, Input, Layer, Lowering, Shuffle, Shuffled};
use swath::delayed::KeepError;
use swath::{Delayed, Error, Result};

/// How many numbers a chunk has; the last one may have fewer.
pub const SIZE: usize = 4;

/// What may be wrong with numbers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum NumbersError {
    Lengths(usize, usize),
    NotANumber,
    Size(usize),
}

impl fmt::Display for NumbersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lengths(a, b) => write!(f, "{a} numbers and {b} cannot be added"),
            Self::NotANumber => write!(f, "the root of a negative number"),
            Self::Size(size) => write!(f, "a chunk of {size} numbers"),
        }
    }
}

impl std::error::Error for NumbersError {}

#[derive(Clone, Debug)]
pub struct Numbers {
    pub chunks: Chunks<Vec<f64>>,
    pub len: usize,
}

impl Collection for Numbers {
    type Chunk = Vec<f64>;
    type Output = Vec<f64>;

    fn nchunks(&self) -> usize {
        self.len.div_ceil(SIZE)
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.chunks.lower(lowering)
    }

    fn assemble(&self, chunks: Vec<Vec<f64>>) -> Result<Vec<f64>> {
        match chunks.iter().rev().skip(1).find(|chunk| chunk.len() != SIZE) {
            Some(wrong) => Err(Error::collection(NumbersError::Size(wrong.len()))),
            None => Ok(chunks.concat()),
        }
    }

    fn with_chunks(&self, chunks: Chunks<Vec<f64>>) -> Self {
        Self { chunks, len: self.len }
    }
}

swath::computable!(Numbers);

fn ramp(from: Arc<usize>, len: Arc<usize>) -> Vec<f64> {
    (*from..(*from + SIZE).min(*len)).map(|x| x as f64).collect()
}

pub fn add(a: Arc<Vec<f64>>, b: Arc<Vec<f64>>) -> Vec<f64> {
    a.iter().zip(b.iter()).map(|(a, b)| a + b).collect()
}

fn sum(chunk: Arc<Vec<f64>>) -> f64 {
    chunk.iter().sum()
}

impl Numbers {
    fn ramp_layer(len: usize) -> Layer<(Arc<usize>, Arc<usize>)> {
        Layer::over((Input::each((0..len).step_by(SIZE)), Input::shared(len)))
    }

    /// 0, 1, 2, …
    pub fn ramp(len: usize) -> Self {
        Self { chunks: Self::ramp_layer(len).chunks(ramp), len }
    }

    /// The same, whose tasks are made when they are wanted.
    pub fn ramp_by_rule(len: usize) -> Self {
        Self { chunks: Self::ramp_layer(len).as_rule().chunks(ramp), len }
    }

    /// The sums of numbers at the same places. An error is carried until something is computed.
    pub fn add(&self, other: &Self) -> Self {
        if self.len != other.len {
            let error = Error::collection(NumbersError::Lengths(self.len, other.len));
            return Self { chunks: Chunks::failed(error), len: self.len };
        }
        let chunks = Layer::over((Input::chunk(&self.chunks), Input::chunk(&other.chunks))).chunks(add);
        Self { chunks, len: self.len }
    }

    /// The same by rule.
    pub fn add_by_rule(&self, other: &Self) -> Self {
        let chunks = Layer::over((Input::chunk(&self.chunks), Input::chunk(&other.chunks))).as_rule().chunks(add);
        Self { chunks, len: self.len }
    }

    pub fn root(&self) -> Self {
        let root = |chunk: Arc<Vec<f64>>| {
            let root = |x: &f64| if *x < 0.0 { Err(KeepError(NumbersError::NotANumber)) } else { Ok(x.sqrt()) };
            chunk.iter().map(root).collect::<Result<Vec<f64>, _>>()
        };
        Self { chunks: Layer::over((Input::chunk(&self.chunks),)).try_chunks(root), len: self.len }
    }

    pub fn sum(&self) -> Delayed<f64> {
        Layer::over((Input::chunk(&self.chunks),)).chunks(sum).split_every(3).tree(|sums: Vec<f64>| sums.iter().sum())
    }

    /// The numbers as whole ones, one by one.
    pub fn whole(&self) -> Chunks<Vec<i64>> {
        Layer::over((Input::elements(&self.chunks),)).elements(|numbers: Elements<f64>| numbers.map(|x| x as i64))
    }

    /// The numbers with equal remainders in one chunk each.
    pub fn by_remainder(&self, divisor: i64, n: usize) -> Chunks<Vec<i64>> {
        let whole = Layer::over((Input::elements(&self.whole()), Input::shared(divisor)));
        let pairs = whole.elements(|numbers: Elements<i64>, divisor: Arc<i64>| numbers.map(move |x| (x % *divisor, x)));
        let shuffle = Shuffle::<(i64, i64)>::by_key(&pairs, n, |(remainder, _)| *remainder);
        let values = |pairs: Shuffled<(i64, i64)>| pairs.map(|(_, x)| x);
        Layer::over((Input::shuffled(&shuffle),)).elements(values)
    }
}
