//! Logs of runs that never were: for tests of the report, and for looking at it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use swath_insight::log::{
    Event, EventKind, Head, Input, LogError, MemorySample, Outcome, Run, SavedLog, ThreadTime, TimeByUse, Use, Writer,
};
use swath_insight::profile::{Frame, FrameOrigin, Profile};
use swath_insight::{Counts, GroupProgress, Totals};

/// Numbers that look random, always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn hash(&mut self) -> u64 {
        self.below(1 << 31) << 33 ^ self.below(1 << 31) << 2 ^ self.below(4)
    }
}

const MS: u64 = 1_000_000;

fn at(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

fn head() -> Head {
    let mut head = Head::new("0.1.0", UNIX_EPOCH + Duration::from_secs(1_795_874_659));
    head.build = "4f1c9a52e07bd3a6".to_string();
    head
}

/// A log of a million tasks, of some milliseconds each, on eight threads.
pub(crate) fn million(path: &Path) -> Result<SavedLog, LogError> {
    let names: Vec<Arc<str>> = (0..12).map(|n| format!("step_{n}").into()).collect();
    let workers: Vec<Arc<str>> = (0..4).map(|n| format!("worker-{n}").into()).collect();
    let mut free = [0_u64; 8];
    let mut numbers = Numbers(1);
    let mut writer = Writer::create(path, &head())?;
    for number in 0..1_000_000_u64 {
        let thread = (number % 8) as usize;
        let start = free[thread] + numbers.below(200_000);
        let took = 200_000 + numbers.below(2_000_000) + if number % 5000 == 0 { 80 * MS } else { 0 };
        free[thread] = start + took;
        let name = names[numbers.below(12) as usize].clone();
        let mut run = Run::new(name, numbers.hash(), workers[thread / 2].clone(), at(start));
        (run.thread, run.task) = ((thread % 2) as u16, number as u32);
        (run.submitted, run.ready) = (Some(Duration::ZERO), Some(at(start - start / 50)));
        (run.bytes_in, run.bytes_out) = (Some(numbers.below(10_000)), Some(numbers.below(1000)));
        run.cpu = (took > 100_000).then(|| at(took - numbers.below(50_000)));
        run.ended(at(start + took), if number % 1000 == 7 { Outcome::Failed } else { Outcome::Finished });
        writer.run(&run);
    }
    writer.finish()?;
    SavedLog::open(path)
}

/// Nothing has run.
pub(crate) fn empty(path: &Path) -> Result<SavedLog, LogError> {
    Writer::create(path, &head())?.finish()?;
    SavedLog::open(path)
}

/// What is told of one layer of a graph.
struct Layer {
    name: &'static str,
    tasks: u64,
    ms: u64,
}

const LAYERS: [Layer; 5] = [
    Layer { name: "read", tasks: 200, ms: 18 },
    Layer { name: "parse", tasks: 600, ms: 31 },
    Layer { name: "filter_long", tasks: 600, ms: 6 },
    Layer { name: "count_part", tasks: 300, ms: 12 },
    Layer { name: "merge", tasks: 40, ms: 45 },
];

/// A run of 1,740 tasks on four workers of two threads each. `is_bad`: some of it fails, a worker dies, and its log ends early.
pub(crate) fn flights(path: &Path, is_bad: bool) -> Result<SavedLog, LogError> {
    let mut writer = Writer::create(path, &head())?;
    let mut numbers = Numbers(7);
    let workers: Vec<Arc<str>> = (0..4).map(|n| format!("worker-{n}").into()).collect();
    for (worker, pid) in workers.iter().zip(4711..) {
        writer.event(Event::new(at(0), EventKind::WorkerStarted { worker: worker.to_string(), pid }));
        writer.event(Event::new(at(90 * MS), EventKind::WorkerReady { worker: worker.to_string(), pid }));
    }
    let tasks = LAYERS.iter().map(|layer| layer.tasks).sum();
    let submitted = EventKind::GraphSubmitted { graph: 1, tasks, label: Some("flights".to_string()), parent: None };
    writer.event(Event::new(at(20 * MS), submitted));
    let named =
        EventKind::GroupNamed { graph: 1, name: "filter_long".into(), layer: "filter long".into(), partitions: 200 };
    writer.event(Event::new(at(20 * MS), named));
    let mut free = [100 * MS; 8];
    let mut computing = [0_u64; 8];
    let mut before: Vec<(&str, u64)> = Vec::new();
    let mut groups = Vec::new();
    let mut task = 0;
    for layer in &LAYERS {
        let name: Arc<str> = layer.name.into();
        let mut these = Vec::new();
        let mut failed = 0;
        for number in 0..layer.tasks {
            let thread = (0..8).min_by_key(|thread| free[*thread]).unwrap_or(0);
            let pause = if thread / 2 == 3 && number % 20 == 0 { 120 * MS } else { numbers.below(3 * MS) };
            let start = free[thread] + pause;
            let factor = if number % 97 == 0 { 9 } else { 1 };
            let took = factor * (layer.ms * MS / 2 + numbers.below(layer.ms * MS));
            let hash = numbers.hash();
            let mut run = Run::new(name.clone(), hash, workers[thread / 2].clone(), at(start));
            (run.graph, run.task, run.thread) = (1, task, (thread % 2) as u16);
            task += 1;
            run.submitted = Some(at(20 * MS));
            run.ready = Some(at(start.saturating_sub(numbers.below(40 * MS)).max(20 * MS)));
            run.cpu = Some(at(took - took / 9));
            (run.bytes_in, run.bytes_out) = (Some(2_000_000 + numbers.below(500_000)), Some(numbers.below(1_000_000)));
            let fails = is_bad && layer.name == "parse" && number % 61 == 5;
            let dies = is_bad && layer.name == "count_part" && (140..142).contains(&number);
            let outcome = match (fails, dies) {
                (true, _) => Outcome::Failed,
                (_, true) => Outcome::Lost,
                _ => Outcome::Finished,
            };
            failed += u64::from(fails);
            run.ended(at(start + took), outcome);
            writer.run(&run);
            if let Some((of, from)) = (!before.is_empty()).then(|| before[numbers.below(before.len() as u64) as usize])
            {
                let named = |name: &str| -> Arc<str> { name.into() };
                writer.input(Input::new(1, (named(layer.name), hash), (named(of), from)));
            }
            if number % 40 == 3 {
                let (from, to) = (workers[(thread / 2 + 1) % 4].to_string(), run.worker.to_string());
                let moved = EventKind::Transfer { key: run.key(), from, to, bytes: 2_100_000, took: at(7 * MS) };
                writer.event(Event::new(at(start), moved));
            }
            if fails {
                say(&mut writer, start + took, &run, "ERROR", "not a number: \"x\" in line 17");
                say(
                    &mut writer,
                    start + took,
                    &run,
                    "stderr",
                    "<script>alert('no')</script> \u{202e}backwards\u{2069}",
                );
            } else if number % 150 == 1 {
                say(&mut writer, start + took, &run, "INFO", "read 41 MB, skipped 3 lines");
            }
            if dies {
                say(&mut writer, start + took, &run, "stderr", "memory allocation of 402653184 bytes failed");
                let reason = "took more memory than its limit of 512 MB and was ended by the system (SIGKILL)";
                let (worker, pid) = (run.worker.to_string(), 4711);
                let lost = EventKind::WorkerLost { worker, pid, reason: reason.into(), cause: serde_json::Value::Null };
                writer.event(Event::new(at(start + took), lost));
            }
            (free[thread], computing[thread]) = (start + took, computing[thread] + took);
            these.push((layer.name, hash));
        }
        let is_last = layer.name == "merge";
        let left = if is_bad && is_last { 12 } else { 0 };
        let done = layer.tasks - failed - left;
        let kept = if is_last { done } else { done / 6 };
        let counts = Counts { failed: failed + left, memory: kept, released: done - kept, ..Counts::default() };
        groups.push(GroupProgress::new(layer.name, Some(1), Totals::from(counts)));
        before = these;
    }
    let end = free.into_iter().max().unwrap_or(0);
    memory(&mut writer, &workers, end);
    for thread in 0..8_usize {
        let mut uses = TimeByUse::default();
        let rest = end.saturating_sub(computing[thread]);
        uses[Use::Computing] = at(computing[thread]);
        uses[Use::Starting] = at(rest / 12);
        uses[Use::WaitingForInputs] = at(rest / 2);
        uses[if thread / 2 == 3 { Use::WaitingForMemory } else { Use::ReadingInputs }] = at(rest / 4);
        writer.thread_time(&ThreadTime::new(at(end), &*workers[thread / 2], (thread % 2) as u16, uses));
    }
    writer.counts(at(end), &groups);
    if is_bad {
        writer.flush()?;
        // As if the program had been killed.
        std::mem::forget(writer);
    } else {
        writer.event(Event::new(at(end), EventKind::GraphFinished { graph: 1, took: at(end - 20 * MS) }));
        writer.finish()?;
    }
    SavedLog::open(path)
}

fn say(writer: &mut Writer, ns: u64, run: &Run, level: &str, text: &str) {
    let target = (level == "INFO").then(|| "flights::read".to_string());
    let (worker, key, level, text) = (run.worker.to_string(), Some(run.key()), level.to_string(), text.to_string());
    writer.event(Event::new(at(ns), EventKind::Line { worker, key, tasks: Vec::new(), level, target, text }));
}

fn memory(writer: &mut Writer, workers: &[Arc<str>], end: u64) {
    let mut numbers = Numbers(3);
    for step in 0..200_u64 {
        for (number, worker) in (0_u64..).zip(workers) {
            let wave = ((step as f64 / 30.0 + number as f64).sin() + 1.2) * 1e8;
            let mut sample =
                MemorySample::new(at(end * step / 200), &**worker, 60_000_000 + wave as u64 + numbers.below(5_000_000));
            (sample.limit, sample.managed, sample.shared) = (Some(512_000_000), wave as u64 * 3 / 4, 24_000_000);
            sample.spilled = if number == 3 && step > 90 { (step - 90) * 2_800_000 } else { 0 };
            writer.memory(&sample);
        }
    }
}

/// What sampling has seen of such a run.
pub(crate) fn profile() -> Profile {
    let program = |path: &str| Frame::new(path, FrameOrigin::Program);
    let std = |path: &str| Frame::new(path, FrameOrigin::Std);
    let mut profile = Profile::default();
    let ms = Duration::from_millis;
    let stacks: [(&str, &[Frame], u64); 7] = [
        (
            "parse",
            &[program("flights::parse"), program("flights::parse::line"), std("<f64 as core::str::FromStr>::from_str")],
            4200,
        ),
        (
            "parse",
            &[program("flights::parse"), program("flights::parse::line"), program("flights::parse::split")],
            2300,
        ),
        ("parse", &[program("flights::parse"), std("alloc::vec::Vec<T,A>::push")], 900),
        ("parse", &[program("flights::parse")], 400),
        ("count_part", &[program("flights::count_part"), std("hashbrown::map::HashMap<K,V,S,A>::insert")], 1900),
        ("count_part", &[program("flights::count_part")], 200),
        ("merge", &[program("flights::merge"), program("flights::merge::sorted")], 700),
    ];
    for (second, (name, stack, time)) in stacks.into_iter().enumerate() {
        profile.add_stack(name, 1_795_874_659 + second as u64, stack.to_vec(), ms(time), time / 10);
    }
    profile.add_wait("parse", 1_795_874_660, "read", ms(3100));
    profile.add_wait("parse", 1_795_874_661, "futex", ms(800));
    profile.add_wait("read", 1_795_874_660, "read", ms(2600));
    profile
}
