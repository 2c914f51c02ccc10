//! Means and variances.

use super::Bag;
use crate::collection::Elements;
use crate::delayed::{Delayed, delayed};
use crate::task::Data;
use num_traits::ToPrimitive;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Count, mean and sum of squared distances from the mean, of numbers seen one at a time (Welford 1962) and in parts
/// (Chan, Golub and LeVeque 1979). Unlike sums of squares they do not cancel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        numbers.fold(Self::default(), |m, x| {
            let count = m.count + 1.0;
            let mean = m.mean + (x - m.mean) / count;
            Self { count, mean, squares: m.squares + (x - m.mean) * (x - mean) }
        })
    }

    fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        if other.count == 0.0 || self.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * (other.count / count),
            squares: self.squares + other.squares + apart * apart * (self.count * other.count / count),
        }
    }
}

impl<T: Data + ToPrimitive> Bag<T> {
    fn moments(&self) -> Delayed<Moments> {
        fn moments<T: ToPrimitive>(elements: Elements<T>, _: Arc<()>) -> Moments {
            Moments::of(elements.map(|x| x.to_f64().unwrap_or(f64::NAN)))
        }
        fn moments_of(parts: Vec<Moments>) -> Moments {
            parts.into_iter().fold(Moments::default(), Moments::and)
        }
        self.each((), moments::<T>).tree(moments_of)
    }

    /// The arithmetic mean. NaN where there is no element.
    pub fn mean(&self) -> Delayed<f64> {
        fn mean(moments: Moments) -> f64 {
            if moments.count == 0.0 { f64::NAN } else { moments.mean }
        }
        delayed(mean).pure().call(self.moments())
    }

    /// The variance, with `n - ddof` as the divisor: 0 for that of the elements, 1 for an estimate from a sample. NaN
    /// where there are not more than `ddof` elements.
    pub fn var(&self, ddof: usize) -> Delayed<f64> {
        fn var(moments: Moments, ddof: usize) -> f64 {
            let divisor = moments.count - ddof as f64;
            if divisor > 0.0 { moments.squares / divisor } else { f64::NAN }
        }
        delayed(var).pure().call(self.moments(), ddof)
    }

    /// The standard deviation: the root of the [variance](Self::var).
    ///
    /// ```
    /// # use swath::{Bag, Client};
    /// let heights = Bag::from_sequence([2, 4, 4, 4, 5, 5, 7, 9], 3);
    /// let (mean, std) = Client::sync().compute((heights.mean(), heights.std(0)))?;
    /// assert_eq!((mean, std), (5.0, 2.0));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn std(&self, ddof: usize) -> Delayed<f64> {
        fn std(variance: f64) -> f64 {
            variance.sqrt()
        }
        delayed(std).pure().call(self.var(ddof))
    }
}
