//! What two processes must have in common to understand each other.

/// The version of messages and control pages. Processes that differ in it refuse each other before anything else.
///
/// It is a hash over the sources that say what they look like, so that nobody has to think of counting on. A changed
/// comment there changes it too, and costs no more than the restart of a local cluster.
pub(crate) const VERSION: u64 = combine(&[
    hash(env!("CARGO_PKG_VERSION").as_bytes()),
    const { hash(include_bytes!("bytes.rs")) },
    const { hash(include_bytes!("error/death.rs")) },
    const { hash(include_bytes!("error/publish.rs")) },
    const { hash(include_bytes!("error/returned.rs")) },
    const { hash(include_bytes!("error/task.rs")) },
    const { hash(include_bytes!("events/journal.rs")) },
    const { hash(include_bytes!("events/mod.rs")) },
    const { hash(include_bytes!("ids.rs")) },
    const { hash(include_bytes!("ipc/captured.rs")) },
    const { hash(include_bytes!("ipc/ledger.rs")) },
    const { hash(include_bytes!("ipc/page/account.rs")) },
    const { hash(include_bytes!("ipc/page/gauges.rs")) },
    const { hash(include_bytes!("ipc/page/mod.rs")) },
    const { hash(include_bytes!("ipc/page/name.rs")) },
    const { hash(include_bytes!("ipc/payload.rs")) },
    const { hash(include_bytes!("ipc/ring.rs")) },
    const { hash(include_bytes!("ipc/segment/listing.rs")) },
    const { hash(include_bytes!("ipc/segment/memory.rs")) },
    const { hash(include_bytes!("ipc/segment/mod.rs")) },
    const { hash(include_bytes!("job.rs")) },
    const { hash(include_bytes!("job/explained.rs")) },
    const { hash(include_bytes!("machine/mod.rs")) },
    const { hash(include_bytes!("memory/report.rs")) },
    const { hash(include_bytes!("memory/thresholds.rs")) },
    const { hash(include_bytes!("message/mod.rs")) },
    const { hash(include_bytes!("message/packed.rs")) },
    const { hash(include_bytes!("message/question.rs")) },
    const { hash(include_bytes!("profile/mod.rs")) },
    const { hash(include_bytes!("profile/raw.rs")) },
    const { hash(include_bytes!("settings/mod.rs")) },
    const { hash(include_bytes!("status.rs")) },
    const { hash(include_bytes!("status/published.rs")) },
    const { hash(include_bytes!("task/backtrace.rs")) },
    const { hash(include_bytes!("task/image.rs")) },
    const { hash(swath_insight::SENT[0]) },
    const { hash(swath_insight::SENT[1]) },
]);

/// FNV-1a.
const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

const fn hash(bytes: &[u8]) -> u64 {
    let (mut hash, mut i) = (START, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(PRIME);
        i += 1;
    }
    hash
}

const fn combine(hashes: &[u64]) -> u64 {
    let (mut all, mut i) = (START, 0);
    while i < hashes.len() {
        all = (all ^ hashes[i]).wrapping_mul(PRIME);
        i += 1;
    }
    all
}

/// As users see it.
pub(crate) fn describe() -> String {
    format!("{} (protocol {VERSION:016x})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts() {
        assert_eq!(hash(b""), START);
        // A value of the function's authors.
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_ne!(combine(&[1, 2]), combine(&[2, 1]));
        assert!(describe().contains(&format!("{VERSION:x}")));
    }
}
