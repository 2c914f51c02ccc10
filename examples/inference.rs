//! State that is built once per worker: a model that costs something to load, applied to many inputs in batches.
//!
//! ```text
//! cargo run --release --example inference
//! SWATH_SCHEDULER=processes SWATH_WORKERS=4 cargo run --release --example inference
//! ```
//!
//! The model is not an argument of the tasks and never travels: each worker process builds its own, the first time that
//! a task asks for it, and all later tasks of the process use that one.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use support::Look;
use swath::client::Builder;
use swath::task::WorkerLocal;
use swath::{Buffer, try_delayed};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const FEATURES: usize = 16;
const HIDDEN: usize = 64;
const CLASSES: usize = 10;
const BATCH: usize = 500;
const BATCHES: usize = 40;

static MODEL: WorkerLocal<Model> = WorkerLocal::new(load);

/// How often this process has built its model.
static BUILDS: AtomicU32 = AtomicU32::new(0);

fn load() -> std::result::Result<Model, String> {
    BUILDS.fetch_add(1, Ordering::Relaxed);
    Model::build()
}

/// A small network with fixed weights: stands for whatever is read from a file of a few hundred megabytes in real life.
struct Model {
    hidden: Vec<[f32; FEATURES]>,
    output: Vec<[f32; HIDDEN]>,
}

impl Model {
    fn build() -> std::result::Result<Self, String> {
        let mut random = Random(42);
        // Real models cost seconds to load. This one is shaken for a few milliseconds.
        for _ in 0..2_000_000 {
            random.next();
        }
        let model = Self {
            hidden: (0..HIDDEN).map(|_| std::array::from_fn(|_| random.next())).collect(),
            output: (0..CLASSES).map(|_| std::array::from_fn(|_| random.next())).collect(),
        };
        let weights = model.hidden.iter().flatten().chain(model.output.iter().flatten());
        match weights.into_iter().all(|w| w.is_finite()) {
            true => Ok(model),
            false => Err("the model has weights that are not numbers".to_string()),
        }
    }

    /// The class of one input.
    fn classify(&self, input: &[f32]) -> u8 {
        let hidden: [f32; HIDDEN] = std::array::from_fn(|i| dot(&self.hidden[i], input).max(0.0));
        let scores = self.output.iter().map(|weights| dot(weights, &hidden));
        let best = scores.enumerate().fold((0, f32::MIN), |best, score| if score.1 > best.1 { score } else { best });
        best.0 as u8
    }

    fn classify_all(&self, inputs: &[f32]) -> Buffer<u8> {
        inputs.chunks_exact(FEATURES).map(|input| self.classify(input)).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A small deterministic generator of numbers between -1 and 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What one task gives back: the classes of its batch, and who worked them out.
#[derive(Clone, Serialize, Deserialize)]
struct Classified {
    classes: Buffer<u8>,
    process: u32,
    /// How often that process had built its model by then.
    builds: u32,
}

/// The task. The error of a model that cannot be built is an error of the task.
fn classify(inputs: Buffer<f32>) -> std::result::Result<Classified, String> {
    let model = MODEL.get().map_err(|e| e.to_string())?;
    Ok(Classified {
        classes: model.classify_all(&inputs),
        process: std::process::id(),
        builds: BUILDS.load(Ordering::Relaxed),
    })
}

fn batch(number: usize) -> Buffer<f32> {
    let mut random = Random(number as u64);
    Buffer::from_fn(BATCH * FEATURES, |_| random.next())
}

fn run() -> Result {
    let look = Look::alone()?;
    let client = look.client(Builder::from_env()?)?;
    let _report = look.report(&client);
    println!("{client}");

    let started = Instant::now();
    let batches = try_delayed(classify).map((0..BATCHES).map(batch));
    look.draw(&batches)?;
    let results = client.compute(&batches)?;
    println!("classified {} inputs in {:.1?}", BATCHES * BATCH, started.elapsed());

    let mut processes = BTreeMap::<u32, (usize, u32)>::new();
    for result in &results {
        let (batches, builds) = processes.entry(result.process).or_default();
        *batches += 1;
        *builds = result.builds.max(*builds);
    }
    for (process, (batches, builds)) in &processes {
        println!("process {process}: {batches} batches, model built {builds} time(s)");
        if *builds != 1 {
            return Err(format!("process {process} built its model {builds} times, wanted once").into());
        }
    }

    // The same, without workers.
    let model = Model::build()?;
    for (number, result) in results.iter().enumerate() {
        let wanted = model.classify_all(&batch(number));
        if let Some(i) = (0..BATCH).find(|&i| result.classes.get(i) != wanted.get(i)) {
            let (got, wanted) = (result.classes.get(i), wanted.get(i));
            return Err(format!("input {i} of batch {number}: got class {got:?}, wanted {wanted:?}").into());
        }
    }
    let mut counts = [0_usize; CLASSES];
    for &class in results.iter().flat_map(|r| r.classes.iter()) {
        counts[usize::from(class)] += 1;
    }
    println!("inputs of each class: {counts:?}");
    println!("all right");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inference: {error}");
            ExitCode::FAILURE
        }
    }
}
