//! When threads are sampled, and what becomes of the samples.
//!
//! While some owner of threads has them sampled, there are a timer for each of them, the handler, and one thread, which
//! takes samples out of the rings and looks at the clocks of threads that wait. Otherwise there is none of these.

use super::calls::{self, UNSEEN};
use super::raw::{Place, RawProfile};
use super::sampler::{Installed, Modules, PERIOD, Sample};
use super::threads::{Control, Look, Owner, Slot, slots};
use crate::ipc::clock::monotonic_ns;
use crate::ipc::fork::Origin;
use crate::task::image;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use swath_insight::profile::ProfileOff;

/// How often samples are taken out and clocks looked at.
const ROUND: Duration = Duration::from_millis(50);
/// How often it is looked whether libraries have been loaded.
const LIBRARIES: Duration = Duration::from_secs(1);
/// Off the CPU for less than this part of a round is not looked at: the clocks are not read at the same moment.
const LEAST_WAIT: u64 = 20;

/// How many owners have their threads sampled, for threads that begin.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static COLLECTOR: Mutex<Option<Collector>> = Mutex::new(None);
/// The process in which threads were sampled first.
static PROCESS: OnceLock<Origin> = OnceLock::new();

#[derive(Default)]
struct Collector {
    owners: FxHashMap<Owner, Collected>,
    running: Option<Running>,
}

/// What there is of one owner.
struct Collected {
    /// How often it was started and not stopped.
    starts: usize,
    profile: RawProfile,
}

/// What is there while threads are sampled.
struct Running {
    installed: Installed,
    modules: Arc<Modules>,
    looked: Instant,
    end: Arc<End>,
    thread: JoinHandle<()>,
}

/// How the thread is told to end.
#[derive(Default)]
struct End {
    is_over: Mutex<bool>,
    told: Condvar,
}

/// Whether the lock may be held by a thread that this process, a fork, does not have.
fn is_elsewhere() -> bool {
    PROCESS.get().is_some_and(|process| process.is_elsewhere())
}

/// Has the threads of an owner sampled. What was sampled before it was stopped is forgotten.
///
/// # Errors
/// Why they cannot be.
pub(super) fn start(owner: Owner) -> Result<(), ProfileOff> {
    PROCESS.get_or_init(Origin::here);
    if is_elsewhere() {
        return Err(ProfileOff::Forked);
    }
    let mut collector = COLLECTOR.lock();
    let collector = collector.get_or_insert_default();
    let started = collector.start_running();
    let collected =
        collector.owners.entry(owner).or_insert_with(|| Collected { starts: 0, profile: RawProfile::new() });
    if let Err(why) = started {
        collected.profile.off = Some(why.clone());
        return Err(why);
    }
    if collected.starts == 0 {
        collected.profile = RawProfile::new();
        ACTIVE.fetch_add(1, Ordering::AcqRel);
    }
    // Where it had been turned off meanwhile, it goes on.
    collected.profile.off = None;
    collected.starts += 1;
    collector.attach_all();
    Ok(())
}

/// The opposite of one [`start`]. What has been sampled stays.
pub(super) fn stop(owner: Owner) {
    if is_elsewhere() {
        return;
    }
    let mut guard = COLLECTOR.lock();
    let Some(collector) = guard.as_mut() else { return };
    let Some(collected) = collector.owners.get_mut(&owner).filter(|collected| collected.starts > 0) else { return };
    collected.starts -= 1;
    if collected.starts > 0 {
        return;
    }
    // Samples of the last moments are still its own.
    collector.look();
    ACTIVE.fetch_sub(1, Ordering::AcqRel);
    collector.detach_others();
    let ended = if collector.is_active() { None } else { collector.running.take() };
    if let Some(running) = ended {
        *running.end.is_over.lock() = true;
        running.end.told.notify_all();
        running.installed.put_back();
        drop(guard);
        // It may be about to take the lock.
        let _ = running.thread.join();
    }
}

/// What has been sampled of an owner's threads since it was started.
pub(super) fn read(owner: Owner) -> RawProfile {
    if is_elsewhere() {
        return RawProfile::off(ProfileOff::Forked);
    }
    let mut collector = COLLECTOR.lock();
    let Some(collector) = collector.as_mut() else { return RawProfile::new() };
    if collector.running.is_some() {
        collector.look();
    }
    collector.owners.get(&owner).map_or_else(RawProfile::new, |collected| collected.profile.clone())
}

/// There is no such owner any more.
pub(super) fn forget(owner: Owner) {
    // A process that has never sampled anything has nothing to forget, and asks for no lock.
    if PROCESS.get().is_none() || is_elsewhere() {
        return;
    }
    loop {
        match COLLECTOR.lock().as_mut().and_then(|collector| collector.owners.get_mut(&owner)) {
            None => return,
            Some(collected) if collected.starts == 0 => break,
            Some(collected) => collected.starts = 1,
        }
        stop(owner);
    }
    let forgotten = COLLECTOR.lock().as_mut().and_then(|collector| collector.owners.remove(&owner));
    drop(forgotten);
}

/// A thread has got this slot, or runs tasks of another owner from now on.
#[inline]
pub(super) fn attach_new(number: usize, slot: &'static Slot) {
    if ACTIVE.load(Ordering::Acquire) > 0 && !is_elsewhere() {
        attach_now(number, slot);
    }
}

#[cold]
fn attach_now(number: usize, slot: &'static Slot) {
    if let Some(collector) = COLLECTOR.lock().as_mut() {
        collector.attach(number, slot);
    }
}

/// The calling thread, which has this slot, is about to end: nobody looks at it any more.
pub(super) fn detach_ended(slot: &'static Slot) {
    {
        let mut control = slot.control.lock();
        if control.sampling.is_none() {
            control.thread = None;
            return;
        }
    }
    let mut collector = COLLECTOR.lock();
    let mut control = slot.control.lock();
    if let Some(collector) = collector.as_mut() {
        collector.take_samples(&mut control);
    }
    *control = Control::default();
}

/// What the thread does.
fn run(end: &End) {
    loop {
        let mut is_over = end.is_over.lock();
        if !*is_over {
            end.told.wait_for(&mut is_over, ROUND);
        }
        if *is_over {
            return;
        }
        drop(is_over);
        let mut collector = COLLECTOR.lock();
        // Another one may be there by now, after this one was told to end.
        if *end.is_over.lock() || !collector.as_mut().is_some_and(Collector::round) {
            return;
        }
    }
}

impl Collector {
    fn is_active(&self) -> bool {
        self.owners.values().any(|collected| collected.starts > 0)
    }

    fn start_running(&mut self) -> Result<(), ProfileOff> {
        if self.running.is_some() {
            return Ok(());
        }
        let (installed, end) = (Installed::new()?, Arc::new(End::default()));
        let here = Arc::clone(&end);
        match std::thread::Builder::new().name("swath-profile".to_string()).spawn(move || run(&here)) {
            Ok(thread) => {
                let modules = Arc::new(Modules::read());
                self.running = Some(Running { installed, modules, looked: Instant::now(), end, thread });
                Ok(())
            }
            Err(e) => {
                installed.put_back();
                Err(ProfileOff::Refused { reason: format!("a thread: {e}") })
            }
        }
    }

    /// Whether threads are sampled after it, too.
    fn round(&mut self) -> bool {
        let Some(running) = self.running.as_mut() else { return false };
        if let Some(why) = running.installed.is_lost() {
            self.turn_off(&why);
            return false;
        }
        if running.looked.elapsed() > LIBRARIES {
            running.looked = Instant::now();
            if running.modules.is_old() {
                running.modules = Arc::new(Modules::read());
            }
        }
        self.look();
        self.detach_others();
        self.attach_all();
        true
    }

    /// The program has taken the signal for itself.
    fn turn_off(&mut self, why: &ProfileOff) {
        self.look();
        for collected in self.owners.values_mut().filter(|collected| collected.starts > 0) {
            collected.profile.off = Some(why.clone());
        }
        slots().for_each(|(_, slot)| slot.control.lock().sampling = None);
        if let Some(running) = self.running.take() {
            running.installed.put_back();
        }
    }

    /// Has the threads sampled that are to be and are not, as far as the system allows.
    fn attach_all(&mut self) {
        slots().for_each(|(number, slot)| self.attach(number, slot));
    }

    fn attach(&mut self, number: usize, slot: &'static Slot) {
        let Some(running) = &self.running else { return };
        let Some(collected) = self.owners.get_mut(&slot.owner()).filter(|collected| collected.starts > 0) else {
            return;
        };
        let mut control = slot.control.lock();
        let Control { thread: Some(clock), sampling: sampling @ None, .. } = &mut *control else { return };
        let is_blocked = calls::has_blocked(slot.tid(), nix::libc::SIGPROF);
        if is_blocked {
            // It is told, and there is a timer all the same: the program may let the signal in later.
            collected.profile.off = Some(ProfileOff::Blocked);
        }
        match slot.samples.start(number, slot.tid(), *clock, &running.modules) {
            Ok(started) => *sampling = Some(started),
            Err(why) => collected.profile.off = Some(why),
        }
        control.looked = None;
    }

    /// Ends the sampling of threads that are not to be sampled any more, or as they are now.
    fn detach_others(&mut self) {
        for (_, slot) in slots() {
            let is_active = self.owners.get(&slot.owner()).is_some_and(|collected| collected.starts > 0);
            let is_current = |control: &Control| match (&control.sampling, &self.running) {
                (Some(sampling), Some(running)) => {
                    sampling.modules().is_some_and(|modules| Arc::ptr_eq(modules, &running.modules))
                }
                (None, _) => true,
                (Some(_), None) => false,
            };
            let stays = is_active && is_current(&slot.control.lock());
            if !stays {
                self.detach(slot);
            }
        }
    }

    fn detach(&mut self, slot: &'static Slot) {
        let mut control = slot.control.lock();
        self.take_samples(&mut control);
        control.sampling = None;
        control.looked = None;
    }

    /// Takes all samples out, and looks at the clocks.
    fn look(&mut self) {
        for (_, slot) in slots() {
            let mut control = slot.control.lock();
            if control.sampling.is_some() {
                self.take_samples(&mut control);
                self.look_at_clock(slot, &mut control);
            }
        }
    }

    fn take_samples(&mut self, control: &mut Control) {
        let Some(sampling) = &mut control.sampling else { return };
        let Some(modules) = sampling.modules().cloned() else { return };
        let second = second();
        let mut last = None;
        let lost = sampling.take(|sample| {
            last = Some(sample.owner);
            if let Some(collected) = self.owners.get_mut(&sample.owner) {
                collected.add(sample, &modules, second);
            }
        });
        if let Some(collected) = last.and_then(|owner| self.owners.get_mut(&owner)) {
            collected.profile.lost += lost;
        }
    }

    /// Counts the time since the last look that the thread's task was not on a CPU.
    fn look_at_clock(&mut self, slot: &Slot, control: &mut Control) {
        let Some(cpu) = control.thread.and_then(|clock| clock.now()) else { return };
        let (at, task) = (monotonic_ns(), slot.task.kind());
        let run = task.as_ref().map(|(run, _)| *run);
        let now = Look { at, cpu, run, call: UNSEEN };
        let Some(before) = control.looked.replace(now) else { return };
        let (Some((run, task)), Some(looked)) = (task, &mut control.looked) else { return };
        let wall = at.saturating_sub(before.at);
        let off = wall.saturating_sub(cpu.saturating_sub(before.cpu));
        if off < wall / LEAST_WAIT {
            return;
        }
        let is_same = before.run == Some(run);
        let (call, time) = match calls::waits_in(slot.tid()) {
            // Of a run that was under way at the last look, too, the clock tells the time.
            Ok(Some(call)) if is_same => (call, off),
            // It runs again: what it has waited in is known from the last look, if at all.
            Ok(None) | Err(_) if is_same => (before.call, off),
            // It began meanwhile, and whether it waited for all of its time is not known. To be found waiting at this moment
            // is as likely as the share of waiting in all time, so what is counted for it is all time.
            Ok(Some(call)) => (call, wall),
            Ok(None) | Err(_) => return,
        };
        looked.call = call;
        if let Some(collected) = self.owners.get_mut(&slot.owner()) {
            *collected.profile.at(&task, second()).off.entry(call).or_default() += time;
        }
    }
}

impl Collected {
    fn add(&mut self, sample: Sample, modules: &Modules, second: u64) {
        let mut place = |address: usize| {
            if let Some(place) = image::place_in_code(address) {
                return Place::in_image(place);
            }
            let Some(module) = modules.of(address).map(|module| &modules.loaded[module]) else { return Place::NOWHERE };
            Place::in_library(self.profile.library(&module.path), address.wrapping_sub(module.base) as u64)
        };
        let mut stack: Vec<Place> = sample.frames.iter().rev().map(|address| place(*address)).collect();
        if sample.is_cut {
            stack.insert(0, Place::CUT);
        }
        let slice = self.profile.at(&sample.task, second);
        slice.on.add(stack, sample.weight.saturating_mul(PERIOD.as_nanos() as u64));
        slice.samples += 1;
    }
}

fn second() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Of a task that is named in tests.
#[cfg(test)]
pub(super) fn total(profile: &RawProfile, function: u64) -> (u64, u64) {
    let slices = profile.slices().filter(|(found, ..)| *found == function);
    slices.fold((0, 0), |(on, off), (.., slice)| (on + slice.on.total(), off + slice.off.values().sum::<u64>()))
}

#[cfg(test)]
mod tests {
    use super::super::ALONE;
    use super::super::threads::{begin, register};
    use super::*;

    fn spin(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::black_box(began);
        }
    }

    #[test]
    fn time_on_and_off_the_cpu_is_told_apart() {
        let _alone = ALONE.lock();
        let (owner, other) = (Owner(1 << 40), Owner(1 << 41));
        start(owner).expect("it starts");
        let _registered = register(owner);
        let mark = 0_u8;
        {
            let _task = begin(77, None, &raw const mark as usize);
            spin(Duration::from_millis(400));
        }
        {
            let _task = begin(78, Some("sleeper"), &raw const mark as usize);
            std::thread::sleep(Duration::from_millis(400));
        }
        let profile = read(owner);
        stop(owner);
        let (on, _) = total(&profile, 77);
        assert!(on > 100_000_000, "{on}");
        let (on, off) = total(&profile, 78);
        assert!(on < 50_000_000 && (300_000_000..450_000_000).contains(&off), "{on} {off}");
        assert_eq!(total(&read(other), 77), (0, 0));
        assert_eq!(ACTIVE.load(Ordering::Relaxed), 0);
        forget(owner);
        assert_eq!(total(&read(owner), 77), (0, 0));
    }

    #[test]
    fn it_starts_and_stops_many_times() {
        let _alone = ALONE.lock();
        let owner = Owner(1 << 42);
        let _registered = register(owner);
        let mark = 0_u8;
        let _task = begin(79, None, &raw const mark as usize);
        for _ in 0..200 {
            start(owner).expect("it starts");
            spin(Duration::from_micros(200));
            stop(owner);
        }
        start(owner).expect("it starts");
        start(owner).expect("and again");
        stop(owner);
        spin(Duration::from_millis(100));
        forget(owner);
        assert_eq!(ACTIVE.load(Ordering::Relaxed), 0);
        assert!(COLLECTOR.lock().as_ref().is_none_or(|collector| collector.running.is_none()));
    }
}
