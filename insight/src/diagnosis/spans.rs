//! Sets of times: spans that do not touch each other, in order.

use std::time::Duration;

/// From a time to a later one.
pub(super) type Span = (Duration, Duration);

/// Times, as spans in order that do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<Span>);

impl Spans {
    /// All times that are in one of these.
    pub(super) fn of(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut spans: Vec<Span> = spans.into_iter().filter(|(from, to)| from < to).collect();
        spans.sort_unstable();
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for (from, to) in spans {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn total(&self) -> Duration {
        self.0.iter().map(|(from, to)| *to - *from).sum()
    }

    /// The times of a span that are not in it.
    pub(super) fn gaps(&self, within: Span) -> Self {
        let mut gaps = Vec::new();
        let mut at = within.0;
        for &(from, to) in &self.0 {
            if from >= within.1 {
                break;
            }
            if at < from {
                gaps.push((at, from));
            }
            at = at.max(to);
        }
        if at < within.1 {
            gaps.push((at, within.1));
        }
        Self(gaps)
    }

    /// The times that are in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (mut both, mut rest) = (Vec::new(), &other.0[..]);
        for &(from, to) in &self.0 {
            while let Some(&(start, end)) = rest.first() {
                let (a, b) = (from.max(start), to.min(end));
                if a < b {
                    both.push((a, b));
                }
                if end > to {
                    break;
                }
                rest = &rest[1..];
            }
        }
        Self(both)
    }

    /// The times that are in this one alone.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().flat_map(|span| other.gaps(*span).0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans(of: &[(u64, u64)]) -> Spans {
        Spans::of(of.iter().map(|(from, to)| (Duration::from_secs(*from), Duration::from_secs(*to))))
    }

    #[test]
    fn spans_are_joined_and_cut() {
        let a = spans(&[(5, 7), (1, 3), (2, 4), (7, 8), (9, 9)]);
        assert_eq!(a, spans(&[(1, 4), (5, 8)]));
        let within = (Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!(a.gaps(within), spans(&[(4, 5), (8, 10)]));
        assert_eq!(a.and(&spans(&[(3, 6), (7, 20)])), spans(&[(3, 4), (5, 6), (7, 8)]));
        assert_eq!(a.without(&spans(&[(3, 6), (7, 20)])), spans(&[(1, 3), (6, 7)]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_both_and_the_rest(a in any_spans(), b in any_spans()) {
            let (a, b) = (spans(&a), spans(&b));
            prop_assert_eq!(a.and(&b).total() + a.without(&b).total(), a.total());
            prop_assert_eq!(a.and(&b), b.and(&a));
        }
    }

    fn any_spans() -> impl Strategy<Value = Vec<(u64, u64)>> {
        proptest::collection::vec((0_u64..50, 1_u64..9).prop_map(|(from, long)| (from, from + long)), 0..12)
    }
}
