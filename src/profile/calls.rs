//! System calls: which one a thread waits in, and what it is called.

use nix::libc;
use std::borrow::Cow;

/// It waits, and in no call: a page is read from disk, for example.
pub(super) const NO_CALL: i64 = -1;
/// It was not on a CPU, and what for was not seen: it may have been ready and waited for one.
pub(super) const UNSEEN: i64 = -2;

/// What a thread of this process waits in: the number of a system call, or [`NO_CALL`]. None: it runs.
///
/// # Errors
/// Where the kernel does not say.
pub(super) fn waits_in(tid: i32) -> std::io::Result<Option<i64>> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall"))?;
    Ok(text.split_whitespace().next().and_then(|word| word.parse().ok()))
}

/// Signals that the C library has for itself, and that programs cannot block: 32 and 33.
const OF_LIBRARY: u64 = 0b11 << 31;

/// Whether the program has a signal blocked in a thread of this process. Where that is not known, it has not.
pub(super) fn has_blocked(tid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigBlk:")?.trim(), 16).ok());
    // While a thread starts another one, the C library has all blocked, its own signals among them.
    blocked.is_some_and(|blocked| blocked >> (signal - 1) & 1 == 1 && blocked & OF_LIBRARY != OF_LIBRARY)
}

/// The name of such a number.
pub(super) fn name(call: i64) -> Cow<'static, str> {
    match call {
        NO_CALL => "in no system call".into(),
        UNSEEN => "waiting for a CPU, or not seen".into(),
        call => match NAMES.iter().find(|(number, _)| *number == call) {
            Some((_, name)) => (*name).into(),
            None => format!("system call {call}").into(),
        },
    }
}

/// Those that threads spend time in.
macro_rules! names {
    ($($(#[$cfg:meta])* $constant:ident $name:literal),+ $(,)?) => {
        &[$($(#[$cfg])* (libc::$constant, $name)),+]
    };
}

const NAMES: &[(libc::c_long, &str)] = names![
    SYS_read "read",
    SYS_write "write",
    SYS_readv "readv",
    SYS_writev "writev",
    SYS_pread64 "pread64",
    SYS_pwrite64 "pwrite64",
    SYS_preadv "preadv",
    SYS_pwritev "pwritev",
    SYS_openat "openat",
    SYS_close "close",
    SYS_fsync "fsync",
    SYS_fdatasync "fdatasync",
    SYS_sync "sync",
    SYS_syncfs "syncfs",
    SYS_fallocate "fallocate",
    SYS_ftruncate "ftruncate",
    SYS_flock "flock",
    SYS_fcntl "fcntl",
    SYS_ioctl "ioctl",
    SYS_sendfile "sendfile",
    SYS_splice "splice",
    SYS_copy_file_range "copy_file_range",
    SYS_getdents64 "getdents64",
    SYS_unlinkat "unlinkat",
    SYS_mmap "mmap",
    SYS_munmap "munmap",
    SYS_mprotect "mprotect",
    SYS_mremap "mremap",
    SYS_madvise "madvise",
    SYS_msync "msync",
    SYS_brk "brk",
    SYS_futex "futex",
    SYS_nanosleep "nanosleep",
    SYS_clock_nanosleep "clock_nanosleep",
    SYS_sched_yield "sched_yield",
    SYS_ppoll "ppoll",
    SYS_pselect6 "pselect6",
    SYS_epoll_pwait "epoll_pwait",
    SYS_accept "accept",
    SYS_accept4 "accept4",
    SYS_connect "connect",
    SYS_sendto "sendto",
    SYS_recvfrom "recvfrom",
    SYS_sendmsg "sendmsg",
    SYS_recvmsg "recvmsg",
    SYS_sendmmsg "sendmmsg",
    SYS_recvmmsg "recvmmsg",
    SYS_wait4 "wait4",
    SYS_waitid "waitid",
    SYS_clone "clone",
    SYS_execve "execve",
    SYS_io_getevents "io_getevents",
    SYS_io_uring_enter "io_uring_enter",
    SYS_getrandom "getrandom",
    SYS_rt_sigtimedwait "rt_sigtimedwait",
    SYS_rt_sigsuspend "rt_sigsuspend",
    SYS_semtimedop "semtimedop",
    SYS_msgrcv "msgrcv",
    #[cfg(target_arch = "x86_64")]
    SYS_poll "poll",
    #[cfg(target_arch = "x86_64")]
    SYS_select "select",
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_wait "epoll_wait",
    #[cfg(target_arch = "x86_64")]
    SYS_open "open",
    #[cfg(target_arch = "x86_64")]
    SYS_stat "stat",
    #[cfg(target_arch = "x86_64")]
    SYS_fork "fork",
    #[cfg(target_arch = "x86_64")]
    SYS_vfork "vfork",
    #[cfg(target_arch = "x86_64")]
    SYS_pause "pause",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_names() {
        assert_eq!(name(libc::SYS_futex), "futex");
        assert_eq!(name(100_000), "system call 100000");
        assert!(NAMES.iter().all(|(number, _)| NAMES.iter().filter(|(other, _)| other == number).count() == 1));
        // The caller runs, and so reads its own file in a call that it does not wait in.
        assert!(waits_in(nix::unistd::gettid().as_raw()).is_ok());
        assert!(waits_in(-1).is_err());
    }
}
