//! Which parts of a process's memory files are unused. Decides only, and knows nothing of files or memory.

use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) file: u32,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Range {
    fn end(self) -> usize {
        self.start + self.len
    }
}

/// Whether the memory of an unused part is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// It has contents that nobody needs.
    Resident,
    /// It takes no memory, and reads as zeroes.
    Empty,
}

/// The unused parts of all files: no two of a kind touch.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// By file and start.
    unused: BTreeMap<(u32, usize), (usize, Pages)>,
    /// By length, so that the best fit is found: the smallest that is large enough, of the oldest file.
    resident: BTreeSet<(usize, u32, usize)>,
    empty: BTreeSet<(usize, u32, usize)>,
    /// Length of each file, and how much of it is unused.
    files: FxHashMap<u32, (usize, usize)>,
    resident_bytes: usize,
}

impl Ranges {
    /// A new file, all of it empty.
    pub(super) fn add_file(&mut self, file: u32, len: usize) {
        self.files.insert(file, (len, 0));
        self.put(Range { file, start: 0, len }, Pages::Empty);
    }

    /// A file of which nothing is to be used again. The answer is what was resident of it.
    pub(super) fn remove_file(&mut self, file: u32) -> Vec<Range> {
        let of_file: Vec<_> = self.unused.range((file, 0)..=(file, usize::MAX)).map(|(k, v)| (*k, *v)).collect();
        let mut resident = Vec::new();
        for ((file, start), (len, pages)) in of_file {
            let range = Range { file, start, len };
            self.remove(range, pages);
            if pages == Pages::Resident {
                resident.push(range);
            }
        }
        self.files.remove(&file);
        resident
    }

    /// Bytes that are resident.
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Number of parts that are resident.
    pub(super) fn resident_parts(&self) -> usize {
        self.resident.len()
    }

    /// Whether nothing of the file is used.
    pub(super) fn is_unused(&self, file: u32) -> bool {
        self.files.get(&file).is_some_and(|(len, unused)| len == unused)
    }

    /// Whether nothing of the file is used, nor has memory.
    pub(super) fn is_empty(&self, file: u32) -> bool {
        let whole = self.files.get(&file).map(|(len, _)| (*len, Pages::Empty));
        whole.is_some() && self.unused.get(&(file, 0)).copied() == whole
    }

    /// Takes `len` bytes of the smallest part that has as many.
    pub(super) fn take(&mut self, len: usize, pages: Pages) -> Option<Range> {
        let &(found, file, start) = self.by_length(pages).range((len, 0, 0)..).next()?;
        self.remove(Range { file, start, len: found }, pages);
        if found > len {
            self.insert(Range { file, start: start + len, len: found - len }, pages);
        }
        Some(Range { file, start, len })
    }

    /// Takes all resident parts of the files that `of` names.
    pub(super) fn take_resident(&mut self, of: impl Fn(u32) -> bool) -> Vec<Range> {
        let all = self.resident.iter().filter(|(_, file, _)| of(*file));
        let all: Vec<_> = all.map(|&(len, file, start)| Range { file, start, len }).collect();
        all.iter().for_each(|range| self.remove(*range, Pages::Resident));
        all
    }

    /// Gives back a part that was taken.
    pub(super) fn put(&mut self, range: Range, pages: Pages) {
        let mut whole = range;
        let before = self.unused.range(..(range.file, range.start)).next_back();
        if let Some((&(file, start), &(len, alike))) = before {
            let before = Range { file, start, len };
            debug_assert!(file != range.file || before.end() <= range.start, "{range:?} is given back twice");
            if file == range.file && alike == pages && before.end() == range.start {
                self.remove(before, pages);
                whole = Range { start, len: len + whole.len, ..whole };
            }
        }
        if let Some(&(len, alike)) = self.unused.get(&(range.file, range.end()))
            && alike == pages
        {
            self.remove(Range { file: range.file, start: range.end(), len }, pages);
            whole.len += len;
        }
        self.insert(whole, pages);
    }

    fn by_length(&mut self, pages: Pages) -> &mut BTreeSet<(usize, u32, usize)> {
        match pages {
            Pages::Resident => &mut self.resident,
            Pages::Empty => &mut self.empty,
        }
    }

    fn insert(&mut self, range: Range, pages: Pages) {
        self.unused.insert((range.file, range.start), (range.len, pages));
        self.by_length(pages).insert((range.len, range.file, range.start));
        if let Some((_, unused)) = self.files.get_mut(&range.file) {
            *unused += range.len;
        }
        if pages == Pages::Resident {
            self.resident_bytes += range.len;
        }
    }

    fn remove(&mut self, range: Range, pages: Pages) {
        self.unused.remove(&(range.file, range.start));
        self.by_length(pages).remove(&(range.len, range.file, range.start));
        if let Some((_, unused)) = self.files.get_mut(&range.file) {
            *unused -= range.len;
        }
        if pages == Pages::Resident {
            self.resident_bytes -= range.len;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_best_fit_is_taken_and_neighbours_become_one() {
        let mut ranges = Ranges::default();
        ranges.add_file(0, 100);
        let parts: Vec<_> = (0..10).map(|_| ranges.take(10, Pages::Empty).unwrap()).collect();
        assert_eq!(parts[3], Range { file: 0, start: 30, len: 10 });
        assert!(ranges.take(1, Pages::Empty).is_none() && ranges.take(1, Pages::Resident).is_none());
        for at in [0, 1, 5, 3] {
            ranges.put(parts[at], Pages::Resident);
        }
        assert_eq!((ranges.resident_bytes(), ranges.resident_parts()), (40, 3));
        assert_eq!(ranges.take(10, Pages::Resident), Some(parts[3]), "of those that fit as well, the first");
        assert_eq!(ranges.take(15, Pages::Resident), Some(Range { file: 0, start: 0, len: 15 }));
        ranges.put(Range { file: 0, start: 0, len: 15 }, Pages::Empty);
        assert_eq!(ranges.resident_parts(), 2, "ranges of different kinds stay apart");
        assert!(!ranges.is_unused(0));
    }

    #[test]
    fn a_file_that_is_given_back_whole_is_empty() {
        let mut ranges = Ranges::default();
        ranges.add_file(7, 100);
        assert!(ranges.is_empty(7));
        let parts: Vec<_> = (0..4).map(|_| ranges.take(25, Pages::Empty).unwrap()).collect();
        parts.iter().for_each(|part| ranges.put(*part, Pages::Resident));
        assert!(ranges.is_unused(7) && !ranges.is_empty(7));
        let resident = ranges.take_resident(|file| file == 7);
        assert_eq!(resident, [Range { file: 7, start: 0, len: 100 }]);
        ranges.put(resident[0], Pages::Empty);
        assert!(ranges.is_empty(7));
        assert_eq!(ranges.remove_file(7), []);
        assert!(!ranges.is_empty(7) && ranges.take(1, Pages::Empty).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize),
        Put(usize),
        Cool(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..40_usize).prop_map(Step::Take),
            3 => any::<usize>().prop_map(Step::Put),
            1 => any::<usize>().prop_map(Step::Cool),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        /// Every byte is used or unused, once; files are added only where nothing fits; what is resident and not used is what
        /// was given back.
        #[test]
        fn parts_never_overlap_and_none_is_lost(steps in steps()) {
            const FILE: usize = 64;
            let mut ranges = Ranges::default();
            let (mut files, mut used) = (0, Vec::<Range>::new());
            for step in steps {
                match step {
                    Step::Take(len) => {
                        let found = ranges.take(len, Pages::Resident).or_else(|| ranges.take(len, Pages::Empty));
                        used.push(found.unwrap_or_else(|| {
                            ranges.add_file(files, FILE.max(len));
                            files += 1;
                            ranges.take(len, Pages::Empty).unwrap()
                        }));
                    }
                    Step::Put(at) if !used.is_empty() => {
                        let at = at % used.len();
                        ranges.put(used.swap_remove(at), Pages::Resident);
                    }
                    Step::Cool(file) if files > 0 => {
                        let file = (file % files as usize) as u32;
                        for range in ranges.take_resident(|of| of == file) {
                            ranges.put(range, Pages::Empty);
                        }
                    }
                    _ => {}
                }
                let unused = ranges.unused.iter().map(|(&(file, start), &(len, _))| Range { file, start, len });
                let mut all: Vec<Range> = used.iter().copied().chain(unused).collect();
                all.sort_by_key(|range| (range.file, range.start));
                for pair in all.windows(2) {
                    let apart = pair[0].file != pair[1].file || pair[0].end() == pair[1].start;
                    prop_assert!(apart, "{pair:?}");
                }
                let total: usize = all.iter().map(|range| range.len).sum();
                prop_assert_eq!(total, ranges.files.values().map(|(len, _)| len).sum::<usize>());
                for (&file, &(len, unused)) in &ranges.files {
                    let in_use: usize = used.iter().filter(|range| range.file == file).map(|range| range.len).sum();
                    prop_assert_eq!(unused, len - in_use);
                }
                let parts: Vec<_> = ranges.unused.iter().collect();
                for pair in parts.windows(2) {
                    let ((file, start), (len, pages)) = pair[0];
                    let ((next, at), (_, next_pages)) = pair[1];
                    prop_assert!(file != next || start + len != *at || pages != next_pages, "{pair:?} are not one");
                }
                let resident: usize = ranges.resident.iter().map(|(len, ..)| len).sum();
                prop_assert_eq!(resident, ranges.resident_bytes());
                prop_assert_eq!(ranges.resident.len() + ranges.empty.len(), ranges.unused.len());
            }
        }
    }
}
