//! Memory that grows without end.

/// How many samples make a judgement.
const SAMPLES: usize = 20;

/// The least that was seen in use over some time: what tasks take while they run comes and goes, a leak stays.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    seen: [u64; SAMPLES],
    next: usize,
    full: bool,
}

impl Floor {
    /// Takes in what is in use now.
    pub(crate) fn sample(&mut self, bytes: u64) {
        self.seen[self.next] = bytes;
        self.next = (self.next + 1) % SAMPLES;
        self.full |= self.next == 0;
    }

    /// The least of the last samples; none before there were enough.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.full.then(|| self.seen.iter().copied().min().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_forgiven_and_what_stays_is_not() {
        let mut floor = Floor::default();
        (0..SAMPLES - 1).for_each(|_| floor.sample(900));
        assert_eq!(floor.bytes(), None, "too early to tell");
        floor.sample(100);
        assert_eq!(floor.bytes(), Some(100));
        (0..SAMPLES - 1).for_each(|_| floor.sample(900));
        assert_eq!(floor.bytes(), Some(100), "it was down once");
        floor.sample(800);
        assert_eq!(floor.bytes(), Some(800));
    }
}
