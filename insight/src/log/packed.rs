//! Numbers packed by bits.
//!
//! They come in blocks of 128. A block counts from its least number, and gives each of its numbers as many bits as makes it
//! shortest; the few that need more are exceptions, whose upper bits follow. So a block of equal numbers takes three bytes,
//! and one of times with random low bits takes little more than these bits, at a fraction of the time that a compressor
//! needs for them.

use super::columns::{Cursor, put};

/// Numbers in a block.
const BLOCK: usize = 128;

/// No column has more.
const MOST: usize = 1 << 18;

/// A column of numbers that is being written.
pub(super) struct Numbers {
    block: [u64; BLOCK],
    /// How many of the block are there.
    there: usize,
    packed: Vec<u8>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { block: [0; BLOCK], there: 0, packed: Vec::new() }
    }
}

/// A number for a difference of two, modulo 2^64, that is small where they are near each other.
#[inline]
pub(super) fn difference(number: u64, from: u64) -> u64 {
    let difference = number.wrapping_sub(from).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

/// The number that has this difference.
#[inline]
pub(super) fn differing(difference: u64, from: u64) -> u64 {
    let signed = (difference >> 1).cast_signed() ^ -((difference & 1).cast_signed());
    from.wrapping_add(signed.cast_unsigned())
}

impl Numbers {
    #[inline]
    pub(super) fn push(&mut self, number: u64) {
        self.block[self.there] = number;
        self.there += 1;
        if self.there == BLOCK {
            self.pack();
        }
    }

    /// All of them, packed. Begins anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.pack();
        std::mem::take(&mut self.packed)
    }

    fn pack(&mut self) {
        let block = &mut self.block[..self.there];
        let Some(least) = block.iter().min().copied() else { return };
        let mut all = 0;
        for number in block.iter_mut() {
            *number -= least;
            all |= *number;
        }
        let width = if all == 0 { 0 } else { best_width(block, all) };
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        self.packed.push(width as u8);
        let exceptions = self.packed.len();
        self.packed.push(0);
        put(&mut self.packed, least);
        if width > 0 {
            let (mut bits, mut filled) = (0_u128, 0);
            for number in block.iter() {
                bits |= u128::from(number & mask) << filled;
                filled += width;
                if filled >= 64 {
                    self.packed.extend_from_slice(&(bits as u64).to_le_bytes());
                    bits >>= 64;
                    filled -= 64;
                }
            }
            self.packed.extend_from_slice(&(bits as u64).to_le_bytes()[..filled.div_ceil(8) as usize]);
        }
        if all & !mask != 0 {
            for (place, number) in block.iter().enumerate().filter(|(_, number)| **number & !mask != 0) {
                self.packed[exceptions] += 1;
                self.packed.push(place as u8);
                put(&mut self.packed, number >> width);
            }
        }
        self.there = 0;
    }
}

/// How many bits each number should have, so that the block is shortest.
fn best_width(block: &[u64], all: u64) -> u32 {
    let most = 64 - all.leading_zeros();
    let mut by_length = [0_u32; 65];
    for number in block {
        by_length[(64 - number.leading_zeros()) as usize] += 1;
    }
    let (mut best, mut best_bits) = (most, block.len() as u32 * most);
    // With each bit less, those that needed it become exceptions.
    let mut exceptions = 0;
    for width in (0..most).rev() {
        exceptions += by_length[width as usize + 1];
        // Few numbers may be long if that is to be worth anything.
        if exceptions > block.len() as u32 / 4 {
            break;
        }
        // A place, and seven bits a byte.
        let cost = |length: u32| by_length[length as usize] * 8 * (1 + (length - width).div_ceil(7));
        let bits = block.len() as u32 * width + (width + 1..=most).map(cost).sum::<u32>();
        if bits < best_bits {
            (best, best_bits) = (width, bits);
        }
    }
    best
}

/// So many numbers; `None` where there are more, or fewer.
pub(super) fn unpack(packed: &[u8], count: usize) -> Option<Vec<u64>> {
    let mut cursor = Cursor(packed);
    // A block takes three bytes at least; and no chunk has so many rows.
    if count.div_ceil(BLOCK) > packed.len() || count > MOST {
        return None;
    }
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let there = (count - numbers.len()).min(BLOCK);
        let begin = numbers.len();
        let (width, exceptions) = (u32::from(cursor.byte()?), cursor.byte()?);
        let least = cursor.number()?;
        if width > 64 {
            return None;
        }
        let bits = cursor.bytes((there * width as usize).div_ceil(8))?;
        if width == 0 {
            numbers.resize(begin + there, 0);
        } else {
            unpack_bits(bits, width, there, &mut numbers);
        }
        for _ in 0..exceptions {
            let place = usize::from(cursor.byte()?);
            let upper = cursor.number()?;
            if place >= there || width == 64 || upper > u64::MAX >> width {
                return None;
            }
            numbers[begin + place] |= upper << width;
        }
        for number in &mut numbers[begin..] {
            *number = number.checked_add(least)?;
        }
    }
    cursor.0.is_empty().then_some(numbers)
}

fn unpack_bits(bytes: &[u8], width: u32, count: usize, numbers: &mut Vec<u64>) {
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let mut words = bytes.chunks(8).map(|part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    });
    let (mut bits, mut filled) = (0_u128, 0);
    for _ in 0..count {
        if filled < width {
            bits |= u128::from(words.next().unwrap_or(0)) << filled;
            filled += 64;
        }
        numbers.push(bits as u64 & mask);
        bits >>= width;
        filled -= width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(numbers: &[u64]) -> Vec<u8> {
        let mut column = Numbers::default();
        numbers.iter().for_each(|number| column.push(*number));
        column.take()
    }

    #[test]
    fn equal_numbers_take_nearly_nothing_and_random_bits_hardly_more_than_they_are() {
        assert_eq!(packed(&[1; 1280]).len(), 30);
        assert!(packed(&[]).is_empty());
        let low = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let numbers: Vec<u64> = (0..1280).map(|i| 1_000_000 + low(i) + if i % 50 == 0 { 1 << 40 } else { 0 }).collect();
        let length = packed(&numbers).len();
        assert!(length < 1280 * 10 / 8 + 26 * 6 + 100, "{length}");
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0..300_u64, 2 => 1_000_000..1_100_000_u64, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(0)]
    }

    proptest! {
        #[test]
        fn numbers_come_back(numbers in proptest::collection::vec(number(), 0..500)) {
            let packed = packed(&numbers);
            let unpacked = unpack(&packed, numbers.len());
            prop_assert_eq!(unpacked.as_ref(), Some(&numbers));
        }

        #[test]
        fn differences_come_back(number in any::<u64>(), from in any::<u64>()) {
            prop_assert_eq!(differing(difference(number, from), from), number);
        }

        #[test]
        fn any_bytes_are_numbers_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0..400_usize) {
            if let Some(numbers) = unpack(&bytes, count) {
                prop_assert_eq!(numbers.len(), count);
            }
        }
    }
}
