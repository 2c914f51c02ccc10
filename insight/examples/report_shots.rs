//! Writes reports of runs that never were to a folder, to be looked at:
//! `cargo run --release -p swath-insight --example report_shots -- FOLDER`.

#[path = "../tests/samples/mod.rs"]
mod samples;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;
use swath_insight::source::SavedSource;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    std::fs::create_dir_all(&folder)?;
    let at = |name: &str| folder.join(name);
    let finished = samples::flights(&at("finished.swath"), false)?;
    let source = SavedSource::of(&finished).with_profile(samples::profile());
    swath_insight::report::save(&source, at("finished.html"))?;
    samples::flights(&at("failed.swath"), true)?.report(at("failed.html"))?;
    samples::empty(&at("empty.swath"))?.report(at("empty.html"))?;
    let million = samples::million(&at("million.swath"))?;
    let began = Instant::now();
    million.report(at("million.html"))?;
    let (took, bytes) = (began.elapsed(), std::fs::metadata(at("million.html"))?.len());
    println!("a report of a million tasks: {bytes} bytes in {:.2} s", took.as_secs_f64());
    Ok(())
}
