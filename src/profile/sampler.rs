//! Samples of stacks, taken in a signal handler on the thread that is sampled.
//!
//! Each thread that is sampled has a timer of its own on the clock of its CPU time, which sends it SIGPROF: so only what runs
//! on a CPU is interrupted. The kernel sends the signal of such a timer when the thread is about to go back to the program's
//! code (x86-64 since Linux 5.9), so no system call that waits is cut short, and `SA_RESTART` is set for older kernels.
//!
//! # What the handler may do
//! It runs at any instruction of the thread, also inside the allocator or with any lock held. So it
//! - allocates nothing and takes no lock: it reads and writes atomics, and memory that was allocated before;
//! - calls of the C library only `gettid`, which is a system call and nothing else, and reads and puts back `errno`;
//! - cannot be entered twice on a thread, since the signal is blocked while its handler runs;
//! - unwinds with `framehop` under `MustNotAllocateDuringUnwind`, from tables in memory, none of which is unmapped meanwhile;
//! - reads the stack from the interrupted stack pointer up to the stack's end, and nothing else of it;
//! - uses the interrupted thread's own stack: no `SA_ONSTACK`, since the alternate stack that the standard library gives a thread
//!   is smaller than what unwinding takes. Where less than [`STACK_LEFT`] is left of the thread's stack, or it runs on another
//!   one, as a coroutine does, it keeps the instruction pointer alone, for which some hundred bytes are enough.
//!
//! Frames, modules and the unwinder's cache are in a [`Buffer`]; the handler says by [`Samples::busy`] that it uses it, and who
//! takes it away waits for that.

use super::threads::{Owner, ReadTask, Slot, TaskKind, slot};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, Module, MustNotAllocateDuringUnwind, UnwindRegsNative,
    Unwinder, UnwinderNative,
};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void};
use nix::time::{ClockId, clock_gettime};
use std::cell::UnsafeCell;
use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::ops::{Deref, Range};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use swath_insight::profile::ProfileOff;

/// How much CPU time a thread has between two samples.
pub(super) const PERIOD: Duration = Duration::from_millis(10);
/// So much of its stack a thread must have left for its frames to be read. Measured, a sample takes 17 KiB, and 123 KiB where
/// nothing is optimised; the kernel's frame for the signal is some KiB of it.
const STACK_LEFT: usize = if cfg!(debug_assertions) { 192 << 10 } else { 64 << 10 };
/// Frames of a sample; what is further out is cut.
const MOST_FRAMES: usize = 256;
/// Words before a sample's name: lengths, function, owner, how often it counts.
const HEAD: usize = 4;
/// The longest sample.
const MOST_WORDS: usize = HEAD + ReadTask::NAME.len() + MOST_FRAMES;
/// Words for the samples of a thread: some dozens of stacks, and more than it can have between two rounds of the collector.
const WORDS: usize = 1 << 13;

const _: () = assert!(WORDS.is_power_of_two() && WORDS > 16 * MOST_WORDS);

/// Where a thread's handler puts samples.
#[derive(Default)]
pub(super) struct Samples {
    /// Null while the thread is not sampled.
    buffer: AtomicPtr<Buffer>,
    /// The handler is at work.
    busy: AtomicBool,
}

/// All that the handler needs, made before the first signal.
struct Buffer {
    /// A ring of words. The handler writes behind the head, the collector reads from the tail.
    words: Box<[AtomicU64]>,
    head: AtomicUsize,
    tail: AtomicUsize,
    lost: AtomicU64,
    modules: Arc<Modules>,
    /// Used by the handler alone.
    cache: UnsafeCell<CacheNative<MustNotAllocateDuringUnwind>>,
}

// SAFETY: `cache` is reached by the handler alone, which runs on one thread and never inside itself; it is made before the
// handler can see the buffer, and dropped when it no longer can. All else is atomics, or is not changed.
unsafe impl Sync for Buffer {}
// SAFETY: nothing in it belongs to a thread: `framehop`'s cache is plain memory.
unsafe impl Send for Buffer {}

/// A sample as the collector gets it.
pub(super) struct Sample {
    pub(super) task: TaskKind,
    pub(super) owner: Owner,
    /// How many periods it stands for.
    pub(super) weight: u64,
    /// Where code runs or was called from, innermost first: addresses to look up.
    pub(super) frames: Vec<usize>,
    /// There were more, or they could not be read.
    pub(super) is_cut: bool,
}

/// A thread that is sampled. It ends when this is dropped, which the thread's slot must outlive.
pub(super) struct Sampling {
    timer: CpuTimer,
    samples: &'static Samples,
}

/// A timer that sends SIGPROF to one thread, deleted when this is dropped. (That of `nix` is not deleted while its thread panics:
/// then it would go on, and end the process once there is no handler.)
struct CpuTimer(libc::timer_t);

// SAFETY: a timer is the process's, and its number means the same on all threads.
unsafe impl Send for CpuTimer {}

impl CpuTimer {
    /// By the clock of a thread, for the same thread. It does not run yet.
    fn new(clock: Clock, tid: i32, number: usize) -> nix::Result<Self> {
        let mut timer = ptr::null_mut();
        // SAFETY: zeroes are a `sigevent`, which the call reads, and the answer has room for a timer's number.
        let made = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGPROF;
            event.sigev_notify_thread_id = tid;
            event.sigev_value = libc::sigval { sival_ptr: ptr::without_provenance_mut(number) };
            libc::timer_create(clock.0.as_raw(), &raw mut event, &raw mut timer)
        };
        Errno::result(made).map(|_| Self(timer))
    }

    /// Has it send signals from now on.
    fn run(&self, every: Duration) -> nix::Result<()> {
        let every = *nix::sys::time::TimeSpec::from(every).as_ref();
        let times = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: the timer is there as long as this value, and the times are read.
        Errno::result(unsafe { libc::timer_settime(self.0, 0, &raw const times, ptr::null_mut()) }).map(drop)
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and it is deleted here alone. There is nothing to be done about an error.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// The clock of a thread's CPU time.
#[derive(Clone, Copy)]
pub(super) struct Clock(ClockId);

impl Clock {
    /// That of the calling thread.
    pub(super) fn of_thread() -> Option<Self> {
        let mut id = 0;
        // SAFETY: the calling thread is alive, and the answer has room for a clock's number.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
        (failed == 0).then(|| Self(ClockId::from_raw(id)))
    }

    /// Nanoseconds that the thread has had. None where it has ended.
    pub(super) fn now(self) -> Option<u64> {
        clock_gettime(self.0).ok().map(|time| Duration::from(time).as_nanos() as u64)
    }
}

/// Where the stack of the calling thread lies.
pub(super) fn stack_of_thread() -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut low, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the calling thread is alive; attributes are read only if they were written, and then given back, once.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let failed = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if failed != 0 {
            return None;
        }
    }
    let low = low as usize;
    low.checked_add(size).map(|high| low..high)
}

/// What was set for SIGPROF before, to be put back.
pub(super) struct Installed(libc::sigaction);

// SAFETY: it is numbers and the address of a function.
unsafe impl Send for Installed {}

/// What is set for SIGPROF now.
fn action() -> Option<libc::sigaction> {
    // SAFETY: zeroes are a `sigaction`; the call writes to it only, and installs nothing.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(libc::SIGPROF, ptr::null(), &raw mut now) == 0).then_some(now)
    }
}

fn set_action(action: &libc::sigaction) -> Result<(), ProfileOff> {
    // SAFETY: what is installed is what was there before, nothing at all, or this module's handler, for which the head of the
    // module says why it may run at any moment.
    let result = unsafe { libc::sigaction(libc::SIGPROF, action, ptr::null_mut()) };
    Errno::result(result).map(drop).map_err(|e| ProfileOff::Refused { reason: format!("a signal handler: {e}") })
}

/// Whether a timer of the program's own sends SIGPROF.
fn has_timer() -> bool {
    // SAFETY: zeroes are an `itimerval`, and the call writes to it only.
    unsafe {
        let mut now: libc::itimerval = std::mem::zeroed();
        let is_set = |time: libc::timeval| time.tv_sec != 0 || time.tv_usec != 0;
        libc::getitimer(libc::ITIMER_PROF, &raw mut now) == 0 && (is_set(now.it_value) || is_set(now.it_interval))
    }
}

fn address_of_handler() -> libc::sighandler_t {
    handler as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as libc::sighandler_t
}

impl Installed {
    /// Has SIGPROF handled here.
    ///
    /// # Errors
    /// Where the program has a use for that signal.
    pub(super) fn new() -> Result<Self, ProfileOff> {
        let unknown = || ProfileOff::Refused { reason: "SIGPROF cannot be handled".to_string() };
        let before = action().ok_or_else(unknown)?;
        if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN {
            return Err(ProfileOff::HandlerInUse);
        }
        if has_timer() {
            return Err(ProfileOff::TimerInUse);
        }
        // SAFETY: zeroes are a `sigaction`, whose mask is empty then.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = address_of_handler();
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        set_action(&ours)?;
        Ok(Self(before))
    }

    /// Why it must end: the program has taken the signal for itself.
    pub(super) fn is_lost(&self) -> Option<ProfileOff> {
        match action() {
            Some(now) if now.sa_sigaction != address_of_handler() => Some(ProfileOff::HandlerInUse),
            _ => has_timer().then_some(ProfileOff::TimerInUse),
        }
    }

    /// Puts back what was there, unless the program has set something else. To be called when there are no timers any more.
    pub(super) fn put_back(self) {
        if action().is_none_or(|now| now.sa_sigaction != address_of_handler()) {
            return;
        }
        // SAFETY: as in `new`.
        let mut ignored: libc::sigaction = unsafe { std::mem::zeroed() };
        ignored.sa_sigaction = libc::SIG_IGN;
        // A signal that a timer has sent and that no thread has had yet would end the process where nothing is set for it: to
        // ignore a signal is to discard those.
        let _ = set_action(&ignored);
        let _ = set_action(&self.0);
    }
}

impl Samples {
    /// Has a thread sampled, whose slot has this number.
    pub(super) fn start(
        &'static self,
        number: usize,
        tid: i32,
        clock: Clock,
        modules: &Arc<Modules>,
    ) -> Result<Sampling, ProfileOff> {
        let refused = |e: Errno| ProfileOff::Refused { reason: format!("a timer: {e}") };
        let timer = CpuTimer::new(clock, tid, number).map_err(refused)?;
        let buffer = Box::new(Buffer {
            words: std::iter::repeat_with(AtomicU64::default).take(WORDS).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            modules: Arc::clone(modules),
            cache: UnsafeCell::new(CacheNative::new_in()),
        });
        let before = self.buffer.swap(Box::into_raw(buffer), Ordering::SeqCst);
        debug_assert!(before.is_null(), "a thread is sampled once");
        let sampling = Sampling { timer, samples: self };
        sampling.timer.run(PERIOD).map_err(refused)?;
        Ok(sampling)
    }
}

impl Sampling {
    fn buffer(&self) -> Option<&Buffer> {
        // SAFETY: the pointer is null or one that `start` has made of a box. Only the drop of this value frees that.
        unsafe { self.samples.buffer.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn modules(&self) -> Option<&Arc<Modules>> {
        self.buffer().map(|buffer| &buffer.modules)
    }

    /// Takes out what has been sampled since the last time, and how many samples had no room. By one thread at a time.
    pub(super) fn take(&mut self, mut each: impl FnMut(Sample)) -> u64 {
        let Some(buffer) = self.buffer() else { return 0 };
        let head = buffer.head.load(Ordering::Acquire);
        let mut at = buffer.tail.load(Ordering::Relaxed);
        let word = |at: usize| buffer.words[at & (WORDS - 1)].load(Ordering::Relaxed);
        while at != head {
            let lengths = word(at);
            let (len, frames) = ((lengths >> 32) as usize & 0xffff, lengths as usize & 0xffff);
            let name = len.div_ceil(8);
            each(Sample {
                task: TaskKind::of(word(at + 1), len, (0..name).map(|i| word(at + HEAD + i))),
                owner: Owner(word(at + 2)),
                weight: word(at + 3),
                frames: (0..frames).map(|i| word(at + HEAD + name + i) as usize).collect(),
                is_cut: lengths & CUT != 0,
            });
            at += HEAD + name + frames;
        }
        buffer.tail.store(at, Ordering::Release);
        buffer.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        let buffer = self.samples.buffer.swap(ptr::null_mut(), Ordering::SeqCst);
        // A handler that loads the pointer from now on gets null. One that has got the buffer has said before that it is
        // busy; all four accesses are sequentially consistent, so that is seen here.
        while self.samples.busy.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if !buffer.is_null() {
            // SAFETY: `start` made it of a box. It is in no place any more where somebody could find it, and nobody uses it.
            drop(unsafe { Box::from_raw(buffer) });
        }
    }
}

/// In the first word of a sample: its stack is cut.
const CUT: u64 = 1 << 63;

/// What the kernel tells of a signal that a timer has sent: `siginfo_t` on 64-bit Linux.
#[repr(C)]
struct TimerInfo {
    signal: c_int,
    _errno: c_int,
    code: c_int,
    _padding: c_int,
    _timer: c_int,
    overrun: c_int,
    value: usize,
}

const _: () = assert!(size_of::<TimerInfo>() == 32 && size_of::<libc::siginfo_t>() >= 32);

/// The handler. It must not panic: indices are masked or checked, additions wrap.
extern "C" fn handler(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel gives both to a handler that is set with `SA_SIGINFO`, for as long as it runs. `siginfo_t` is longer
    // than a `TimerInfo` and as strictly aligned, and any bytes are one.
    let (info, context) = unsafe { (&*info.cast::<TimerInfo>(), &*context.cast::<libc::ucontext_t>()) };
    // Only signals of timers carry the number of a slot; what others have in that place is not looked at.
    if info.signal == libc::SIGPROF
        && info.code == libc::SI_TIMER
        && let Some(slot) = slot(info.value)
        && slot.tid() == gettid()
    {
        slot.samples.busy.store(true, Ordering::SeqCst);
        // SAFETY: the pointer is null or that of a buffer, which is not freed while this thread is busy: whoever frees it takes
        // it out first and waits then, see the drop of `Sampling`.
        if let Some(buffer) = unsafe { slot.samples.buffer.load(Ordering::SeqCst).as_ref() } {
            sample(slot, buffer, info.overrun, context);
        }
        slot.samples.busy.store(false, Ordering::SeqCst);
    }
    Errno::set_raw(errno);
}

fn gettid() -> i32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Instruction pointer, stack pointer, frame pointer, and where the innermost function returns to if that is in a register.
struct Registers {
    ip: u64,
    sp: u64,
    fp: u64,
    #[cfg(target_arch = "aarch64")]
    lr: u64,
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as u64;
    Registers { ip: register(libc::REG_RIP), sp: register(libc::REG_RSP), fp: register(libc::REG_RBP) }
}

#[cfg(target_arch = "x86_64")]
fn unwound(at: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(at.ip, at.sp, at.fp)
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let at = &context.uc_mcontext;
    Registers { ip: at.pc, sp: at.sp, fp: at.regs[29], lr: at.regs[30] }
}

#[cfg(target_arch = "aarch64")]
fn unwound(at: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(at.lr, at.sp, at.fp)
}

/// Writes a sample of the interrupted thread, which is the calling one.
fn sample(slot: &Slot, buffer: &Buffer, overrun: c_int, context: &libc::ucontext_t) {
    let mut name = ReadTask::NAME;
    let Some(task) = slot.task.read(&mut name) else { return };
    let head = buffer.head.load(Ordering::Relaxed);
    if WORDS.wrapping_sub(head.wrapping_sub(buffer.tail.load(Ordering::Acquire))) < MOST_WORDS {
        buffer.lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let put = |at: usize, word: u64| buffer.words[head.wrapping_add(at) & (WORDS - 1)].store(word, Ordering::Relaxed);
    let name_words = task.len.div_ceil(8);
    name.iter().take(name_words).enumerate().for_each(|(i, word)| put(HEAD + i, *word));
    let at = registers(context);
    let mut frames = 0_usize;
    let mut add = |address: u64| {
        put(HEAD + name_words + frames, address);
        frames += 1;
        frames < MOST_FRAMES
    };
    let stack = slot.stack();
    let has_room = stack.contains(&(at.sp as usize)) && at.sp as usize - stack.start >= STACK_LEFT;
    let whole = match has_room {
        true => unwind(buffer, &at, stack.end as u64, task.mark as u64, &mut add),
        false => {
            add(at.ip);
            false
        }
    };
    let cut = if whole { 0 } else { CUT };
    put(0, cut | (task.len as u64) << 32 | frames as u64);
    put(1, task.function);
    put(2, slot.owner().0);
    put(3, 1 + u64::from(overrun.max(0) as u32));
    buffer.head.store(head.wrapping_add(HEAD + name_words + frames), Ordering::Release);
}

/// Gives the addresses of the functions under way, as they are to be looked up. Whether it came as far as the mark. Not
/// inlined, so that what needs a large stack frame is only called where there is room for it.
#[inline(never)]
fn unwind(buffer: &Buffer, at: &Registers, end: u64, mark: u64, add: &mut dyn FnMut(u64) -> bool) -> bool {
    // SAFETY: the handler alone reaches the cache, and it does not run twice on its thread, see the head of the module.
    let cache = unsafe { &mut *buffer.cache.get() };
    let start = at.sp;
    let mut read = |address: u64| {
        let is_inside = address.is_multiple_of(8) && address >= start && address < end && end - address >= 8;
        is_inside.then(|| read_word(address as usize)).ok_or(())
    };
    let mut registers = unwound(at);
    let mut address = FrameAddress::InstructionPointer(at.ip);
    loop {
        if !add(address.address_for_lookup()) {
            return false;
        }
        match buffer.modules.unwinder.unwind_frame(address, &mut registers, cache, &mut read) {
            // From here on it is who calls the task.
            Ok(Some(_)) if mark > 0 && registers.sp() > mark => return true,
            Ok(Some(caller)) => match FrameAddress::from_return_address(caller) {
                Some(caller) => address = caller,
                None => return true,
            },
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Reads a word of the calling thread's stack at or above the interrupted stack pointer, which is aligned. By an instruction that the
/// compiler does not look into, since what is there belongs to other functions, and may be bytes that it knows nothing of.
#[inline]
fn read_word(address: usize) -> u64 {
    let word: u64;
    // SAFETY: the caller has checked that the word lies between the stack pointer and the end of this thread's stack, all of
    // which is mapped and readable. The instruction reads that word into a register and does nothing else.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("mov {word}, qword ptr [{address}]", word = out(reg) word, address = in(reg) address,
            options(nostack, readonly, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("ldr {word}, [{address}]", word = out(reg) word, address = in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
    word
}

/// Unwind tables of a module.
enum Table {
    /// Of the module that this code is in, which stays mapped as long as it runs.
    Here(&'static [u8]),
    /// A copy: a shared library may be unloaded.
    Copy(Box<[u8]>),
}

impl Deref for Table {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Copy(bytes) => bytes,
        }
    }
}

/// A loaded executable or library.
#[derive(Debug)]
pub(super) struct LoadedModule {
    /// Empty for the executable.
    pub(super) path: PathBuf,
    /// What its own addresses are counted from.
    pub(super) base: usize,
    spans: Vec<Range<usize>>,
}

/// What is loaded, and how to unwind it.
pub(super) struct Modules {
    unwinder: UnwinderNative<Table, MustNotAllocateDuringUnwind>,
    pub(super) loaded: Vec<LoadedModule>,
    version: (u64, u64),
}

impl Modules {
    /// Those of now.
    pub(super) fn read() -> Self {
        let mut modules = Self { unwinder: UnwinderNative::new(), loaded: Vec::new(), version: (0, 0) };
        // SAFETY: the function is called during this call alone, with a pointer to a value of the type that it expects.
        unsafe { libc::dl_iterate_phdr(Some(read_module), (&raw mut modules).cast()) };
        modules
    }

    /// Whether others have been loaded since.
    pub(super) fn is_old(&self) -> bool {
        let mut version = (0, 0);
        // SAFETY: as in `read`.
        unsafe { libc::dl_iterate_phdr(Some(read_version), (&raw mut version).cast()) };
        version != self.version
    }

    /// The module that an address lies in, by number.
    pub(super) fn of(&self, address: usize) -> Option<usize> {
        self.loaded.iter().position(|module| module.spans.iter().any(|span| span.contains(&address)))
    }
}

unsafe extern "C" fn read_version(info: *mut libc::dl_phdr_info, _: libc::size_t, version: *mut c_void) -> c_int {
    // SAFETY: the loader gives what it knows of a module, and `version` is what `is_old` has given.
    unsafe { *version.cast::<(u64, u64)>() = ((*info).dlpi_adds, (*info).dlpi_subs) };
    1
}

/// Notes a module.
unsafe extern "C" fn read_module(info: *mut libc::dl_phdr_info, _: libc::size_t, modules: *mut c_void) -> c_int {
    // SAFETY: the loader gives what it knows of a module, which is not unloaded meanwhile; `modules` is what `read` has given,
    // and nobody else has it.
    let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Modules>()) };
    modules.version = (info.dlpi_adds, info.dlpi_subs);
    let base = info.dlpi_addr as usize;
    // SAFETY: a module has so many program headers there, which are not written.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
    let span = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_memsz as usize)
    };
    let loads = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let spans: Vec<Range<usize>> = loads().map(span).collect();
    let name = match info.dlpi_name {
        name if name.is_null() => &[][..],
        // SAFETY: it is a text with an end, which is not written while the module is loaded.
        name => unsafe { CStr::from_ptr(name) }.to_bytes(),
    };
    let path = PathBuf::from(OsStr::from_bytes(name));
    let is_here = spans.iter().any(|span| span.contains(&address_of_handler()));
    let table = |at: Range<usize>| -> Option<Table> {
        // Only what lies in one segment that is read and not written.
        let is_inside = |header: &&libc::Elf64_Phdr| {
            let within = span(header);
            within.start <= at.start && at.end <= within.end && header.p_flags & libc::PF_W == 0
        };
        loads().find(is_inside).filter(|header| header.p_flags & libc::PF_R != 0)?;
        // SAFETY: the loader has mapped the segment, for reading, and nobody writes to it. For as long as the slice is used it
        // stays mapped: the copy is made now, and the module of this code is there while this code runs.
        let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(at.start as *const u8, at.len()) };
        Some(if is_here { Table::Here(bytes) } else { Table::Copy(bytes.into()) })
    };
    if let Some(all) = spans.iter().map(|span| span.start).min().zip(spans.iter().map(|span| span.end).max())
        && let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(span)
        && let Some(index) = table(header.clone())
        && let Some(frames) = frames_of(&index, header.start)
        && let Some(segment) = spans.iter().find(|span| span.contains(&frames))
        && let Some(tables) = table(frames..segment.end)
    {
        let own = |at: Range<usize>| (at.start.wrapping_sub(base)) as u64..(at.end.wrapping_sub(base)) as u64;
        let sections = ExplicitModuleSectionInfo {
            eh_frame_hdr_svma: Some(own(header)),
            eh_frame_svma: Some(own(frames..segment.end)),
            eh_frame_hdr: Some(index),
            eh_frame: Some(tables),
            base_svma: 0,
            text_svma: None,
            text: None,
            stubs_svma: None,
            stub_helper_svma: None,
            got_svma: None,
            unwind_info: None,
            debug_frame: None,
            text_segment_svma: None,
            text_segment: None,
        };
        let all = all.0 as u64..all.1 as u64;
        modules.unwinder.add_module(Module::new(String::new(), all, base as u64, sections));
    }
    modules.loaded.push(LoadedModule { path, base, spans });
    0
}

/// Where the index at that address says that the tables begin. Linkers write that place relative to itself, in four bytes.
fn frames_of(index: &[u8], address: usize) -> Option<usize> {
    /// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`
    const RELATIVE: u8 = 0x1b;
    match index {
        [1, RELATIVE, _, _, a, b, c, d, ..] => {
            let offset = i32::from_le_bytes([*a, *b, *c, *d]);
            address.checked_add(4)?.checked_add_signed(offset as isize)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_and_its_libraries_are_known() {
        let modules = Modules::read();
        let here = modules.of(address_of_handler()).expect("this code is somewhere");
        assert_eq!(modules.loaded[here].path, PathBuf::new());
        let library = modules.of(libc::getpid as *const () as usize).expect("the C library is somewhere");
        assert_ne!(library, here);
        assert!(!modules.is_old() && modules.of(0).is_none());
    }

    #[test]
    fn a_thread_knows_its_stack_and_its_clock() {
        let here = 0_u8;
        let stack = stack_of_thread().expect("it is known");
        assert!(stack.contains(&(&raw const here as usize)));
        let clock = Clock::of_thread().expect("it is known");
        let before = clock.now().expect("the thread lives");
        while clock.now().expect("the thread lives") == before {}
        let ended = std::thread::spawn(Clock::of_thread).join().expect("no panic").expect("it is known");
        // Its number may be there for a moment after it was waited for.
        let is_gone = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            ended.now().is_none()
        });
        assert!(is_gone);
    }

    /// What the stack is painted with below the thread's own frames.
    const PAINT: u64 = 0x5eed_0f5e_ed0f_5eed;

    /// Lets a sample be taken of this thread, and gives how much of the stack below `here` that took.
    #[inline(never)]
    fn stack_of_a_sample(slot: &Slot, samples: &'static Samples, here: usize) -> usize {
        let here = here & !7;
        let lowest = here - STACK_LEFT;
        for address in (lowest..here - 4096).step_by(8) {
            // SAFETY: this thread's stack goes further down than that, and nobody has anything there now.
            unsafe { ptr::write_volatile(address as *mut u64, PAINT) };
        }
        let modules = Arc::new(Modules::read());
        let clock = Clock::of_thread().expect("it is known");
        let number = super::super::threads::slots().find(|(_, found)| ptr::eq(*found, slot)).expect("it is there").0;
        let mut sampling = samples.start(number, gettid(), clock, &modules).expect("there is a timer");
        let mut frames = 0;
        while frames == 0 {
            sampling.take(|sample| frames = sample.frames.len());
        }
        assert!(frames > 3, "{frames}");
        (lowest..here).step_by(8).find(|address| read_word(*address) != PAINT).map_or(0, |address| here - address)
    }

    #[test]
    fn there_is_stack_enough_for_a_sample() {
        let _alone = super::super::ALONE.lock();
        let installed = Installed::new().expect("nobody else uses the signal");
        let used = std::thread::spawn(|| {
            let registered = super::super::threads::register(Owner(u64::MAX - 1));
            let mark = 0_u8;
            let here = &raw const mark as usize;
            let _task = super::super::threads::begin(5, None, 0);
            let slot = registered.slot().expect("there is room");
            stack_of_a_sample(slot, &slot.samples, here)
        });
        let used = used.join().expect("no panic");
        installed.put_back();
        // What else is on the stack in that moment is the kernel's frame, which a processor with large registers needs.
        assert!(used > 1000 && used + (16 << 10) < STACK_LEFT, "{used} B of {STACK_LEFT} B");
    }

    #[test]
    fn no_tables_are_found_where_there_are_none() {
        assert_eq!(frames_of(&[], 0), None);
        assert_eq!(frames_of(&[1, 0x1b, 3, 0x3b, 0xfc, 0xff, 0xff, 0xff], 0x1000), Some(0x1000));
        assert_eq!(frames_of(&[1, 0x1b, 3, 0x3b, 0, 0, 0, 0x80], 0), None);
        assert_eq!(frames_of(&[2, 0x1b, 3, 0x3b, 0, 0, 0, 0], 0x1000), None);
    }
}
