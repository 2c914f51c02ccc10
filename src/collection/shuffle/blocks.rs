//! What tasks have written in one small block, kept in memory by the processes that read it: where there are many pieces,
//! each of them is a few bytes, and a block is read once instead of once for each.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

/// Bytes that a process keeps at most.
const MOST: u64 = 4 << 20;

/// Which block. No other block ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockKey {
    /// Of the process that wrote it.
    pub(super) process: u32,
    /// Tells that process from another one that has got its number.
    pub(super) token: u64,
    /// The block's, there.
    pub(super) serial: u64,
}

#[derive(Default)]
struct Blocks {
    known: FxHashMap<BlockKey, Arc<[u8]>>,
    /// The oldest first.
    order: VecDeque<BlockKey>,
    bytes: u64,
}

static BLOCKS: LazyLock<Mutex<Blocks>> = LazyLock::new(Mutex::default);

/// Whether all of `n` blocks of such a length can be kept; if not, the first would be gone before it is needed again.
pub(super) fn have_room(len: u64, n: usize) -> bool {
    len.saturating_mul(n as u64) <= MOST
}

pub(super) fn get(key: BlockKey) -> Option<Arc<[u8]>> {
    BLOCKS.lock().known.get(&key).cloned()
}

/// Keeps a block, instead of the oldest ones if there are too many.
pub(super) fn put(key: BlockKey, block: &Arc<[u8]>) {
    BLOCKS.lock().put(key, block);
}

impl Blocks {
    fn put(&mut self, key: BlockKey, block: &Arc<[u8]>) {
        if self.known.insert(key, Arc::clone(block)).is_some() {
            return;
        }
        self.order.push_back(key);
        self.bytes += block.len() as u64;
        while self.bytes > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.known.remove(&oldest).map_or(0, |block| block.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_blocks_go_first() {
        let mut blocks = Blocks::default();
        let block: Arc<[u8]> = vec![7; 1 << 20].into();
        let key = |serial| BlockKey { process: 5, token: 6, serial };
        for serial in [0, 1, 1, 2, 3, 4] {
            blocks.put(key(serial), &block);
        }
        assert_eq!(blocks.bytes, MOST);
        assert!(!blocks.known.contains_key(&key(0)) && (1..5).all(|serial| blocks.known.contains_key(&key(serial))));
        assert!(have_room(10_000, 400) && !have_room(10_000, 500) && !have_room(u64::MAX, 2));
    }
}
