//! The report as a file: what it allows, what it escapes, how it is written.

use super::assets::{CSS, CSS_HASH, MAP_HASH, MODULES, PLOT_CSS, PLOT_CSS_HASH, START, START_HASH, import_map};
use super::*;
use crate::log::{Event, EventKind, Head, Outcome, Run};
use crate::palette::{DARK, LIGHT, NAMES, Palette};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::{Duration, SystemTime};

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

#[test]
fn the_policy_names_the_scripts_and_style_sheets() {
    let known = [
        ("MAP", import_map(), MAP_HASH),
        ("START", START.into(), START_HASH),
        ("CSS", CSS.into(), CSS_HASH),
        ("PLOT_CSS", PLOT_CSS.into(), PLOT_CSS_HASH),
    ];
    let wrong: Vec<_> = known.into_iter().filter(|(_, text, known)| hash(text) != *known).collect();
    let wrong: Vec<_> = wrong.iter().map(|(name, text, _)| format!("{name}_HASH: {}", hash(text))).collect();
    assert!(wrong.is_empty(), "in `assets.rs`, after a change of `web/`: {wrong:#?}");
}

#[test]
fn libraries_are_as_their_makers_ship_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/vendor");
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).expect("checksums");
    let mut listed: Vec<&str> = Vec::new();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").expect("a checksum and a name");
        let bytes = fs::read(folder.join(name)).expect(name);
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sum, "{name} was changed");
        listed.push(name);
    }
    for file in fs::read_dir(&folder).expect("a folder") {
        let name = file.expect("a file").file_name().into_string().expect("a name");
        assert!(
            listed.contains(&name.as_str()) || name == "README.md" || name == "SHA256SUMS",
            "{name} has no checksum"
        );
    }
}

#[test]
fn every_module_of_the_pages_is_in_the_report_and_imports_what_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let mut files = 0;
    for place in [folder.clone(), folder.join("pages")] {
        for file in fs::read_dir(place).expect("a folder") {
            let path = file.expect("a file").path();
            if path.extension().is_some_and(|ending| ending == "js") {
                let code = fs::read_to_string(&path).expect("a module");
                assert!(MODULES.iter().any(|(_, known)| *known == code), "{} is not in the report", path.display());
                files += 1;
            }
        }
    }
    assert_eq!(files, MODULES.iter().filter(|(name, _)| name.starts_with("swath/")).count());
    for (name, code) in MODULES.iter().filter(|(name, _)| name.starts_with("swath/")) {
        let imports = code.lines().filter_map(|line| line.strip_suffix("\";")?.rsplit_once("from \""));
        for (_, import) in imports {
            assert!(MODULES.iter().any(|(known, _)| *known == import), "{name} imports {import}");
        }
        for asks in ["eval(", "new Function", "innerHTML", "fetch(", "http://", "https://", "import("] {
            assert!(!code.contains(asks), "{name} has {asks}");
        }
    }
}

#[test]
fn the_colours_are_those_of_the_palette() {
    fn check(css: &str, palette: &Palette) {
        let named = [
            ("ground", palette.ground),
            ("ink", palette.ink),
            ("dim", palette.dim),
            ("error", palette.error),
            ("others", palette.others),
        ];
        for (name, colour) in named {
            assert!(css.contains(&format!("--{name}: {colour};")), "--{name}: {colour}");
        }
        for (rank, colour) in palette.names.iter().enumerate() {
            assert!(css.contains(&format!("--name-{rank}: {colour};")), "--name-{rank}: {colour}");
        }
    }
    let (light, dark) = CSS.split_once("prefers-color-scheme: dark").expect("colours on both grounds");
    check(light, &LIGHT);
    check(dark, &DARK);
    let colours = MODULES.iter().find(|(name, _)| *name == "swath/colours").expect("a module").1;
    assert!(colours.contains(&format!("export const NAMES = {NAMES};")));
    // Nothing else has colours of its own; black and white are for text on a colour.
    for (name, code) in MODULES.iter().filter(|(name, _)| name.starts_with("swath/")) {
        for (at, _) in code.match_indices('#') {
            let digits: String = code[at + 1..].chars().take_while(char::is_ascii_hexdigit).collect();
            assert!(digits.len() != 6 || ["000000", "FFFFFF"].contains(&digits.as_str()), "{name} has #{digits}");
        }
    }
}

/// What is in a report beside its tables.
fn data(html: &str) -> Value {
    let (_, rest) = html.split_once("id=\"data\">").expect("data");
    let packed = STANDARD.decode(rest.split('<').next().expect("data")).expect("base64");
    let mut json = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut json).expect("gzip");
    serde_json::from_str(&json).expect("JSON")
}

fn run(name: &str, number: u64, outcome: Outcome) -> Run {
    let mut run = Run::new(name, number, "worker-0", Duration::from_millis(number));
    run.task = u32::try_from(number).expect("small");
    run.ended(Duration::from_millis(number + 1), outcome);
    run
}

fn log(runs: Vec<Run>, events: Vec<Event>) -> SavedLog {
    SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs, events, Vec::new())
}

fn report(log: &SavedLog) -> String {
    html(&SavedSource::of(log)).expect("a report")
}

#[test]
fn nothing_that_a_task_says_is_more_than_text() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</script><b>",
        "a\u{202e}b\u{2066}c",
        "a\0b\x1b[2Jc\n",
        "'--><!--",
        "]]>",
    ];
    let mut runs: Vec<Run> = hostile.iter().zip(1..).map(|(name, n)| run(name, n, Outcome::Failed)).collect();
    runs.push(run(&"<x>".repeat(400_000), 99, Outcome::Lost));
    let mut events = Vec::new();
    for text in hostile {
        let text = text.to_string();
        let at = Duration::from_millis(5);
        let line = EventKind::Line {
            worker: text.clone(),
            key: Some(text.clone()),
            tasks: Vec::new(),
            level: text.clone(),
            target: None,
            text: text.clone(),
        };
        let lost =
            EventKind::WorkerLost { worker: "worker-0".into(), pid: 1, reason: text.clone(), cause: Value::Null };
        let submitted = EventKind::GraphSubmitted { graph: 0, tasks: 1, label: Some(text), parent: None };
        events.extend([line, lost, submitted].map(|kind| Event::new(at, kind)));
    }
    let html = report(&log(runs, events));
    // The map of modules, the data, and what starts the pages.
    assert_eq!(html.matches("<script").count(), 3);
    assert_eq!(html.matches("</script").count(), 3);
    let (_, plain) = html.split_once("<main id=\"plain\">").expect("tables");
    let (plain, _) = plain.split_once("</main>").expect("tables");
    for bad in ["<img", "<b>", "<!--", "<x>", "\u{202e}", "\u{2066}", "\0", "\x1b"] {
        assert!(!plain.contains(bad), "{bad:?}");
    }
    assert!(plain.contains("&lt;script&gt;alert(1)"));
    assert!(html.len() < 700_000, "{} bytes", html.len());
    let json = data(&html).to_string();
    for bad in ["\u{202e}", "\\u0000", "\\u001b", "\\u202e"] {
        assert!(!json.contains(bad), "{bad:?}");
    }
}

#[test]
fn the_data_are_the_numbers_of_the_log() {
    let mut runs: Vec<Run> =
        (0..500).map(|n| run(["parse", "sum", "read"][n as usize % 3], n, Outcome::Finished)).collect();
    runs[7].outcome = Outcome::Failed;
    let log = log(runs, vec![Event::new(Duration::from_secs(1), EventKind::GraphCancelled { graph: 3 })]);
    let html = report(&log);
    let data = data(&html);
    let diagnosis = log.diagnose(&crate::diagnosis::Extent::default());
    assert_eq!(data["version"], 1);
    assert_eq!(data["diagnosis"]["wall_ns"], crate::log::nanos::of(diagnosis.wall));
    assert_eq!(data["diagnosis"]["use"], serde_json::to_value(diagnosis.time).expect("JSON"));
    assert_eq!(data["diagnosis"]["findings"], serde_json::to_value(&diagnosis.findings).expect("JSON"));
    assert_eq!(data["status"]["runs"], 500);
    assert_eq!(data["status"]["failed_runs"], 1);
    assert_eq!(data["tasks"]["rows"].as_array().map(Vec::len), Some(500));
    assert_eq!(data["tasks"]["rows"][0]["outcome"], "failed");
    assert_eq!(data["events"]["rows"][0]["text"], "graph 3 was cancelled");
    for name in data["names"]["rows"].as_array().expect("names") {
        assert!(html.contains(&format!("<data value=\"{}\">", name["took_ns"])), "{name}");
    }
}

#[test]
fn an_empty_log_has_a_report() {
    let html = report(&log(Vec::new(), Vec::new()));
    assert!(html.contains("Nothing has run") && html.contains("No worker has died."));
    assert_eq!(data(&html)["status"]["state"], "empty");
}

#[test]
fn where_no_report_can_be_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(vec![run("a", 1, Outcome::Finished)], Vec::new());
    let at = |name: &str| folder.path().join(name);
    for name in ["r.txt", "r", "r.html.gz"] {
        assert!(matches!(log.report(at(name)), Err(ReportError::Ending { .. })), "{name}");
    }
    fs::create_dir(at("d.html")).expect("a folder");
    for path in [at("d.html"), folder.path().to_path_buf()] {
        assert!(matches!(log.report(path), Err(ReportError::Directory { .. })));
    }
    fs::write(at("file"), "").expect("a file");
    for path in [at("gone").join("r.html"), at("file").join("r.html"), PathBuf::from("/proc/self/r.html")] {
        let error = log.report(&path).expect_err("no report");
        assert!(matches!(&error, ReportError::Io { .. }), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    std::os::unix::fs::symlink("/dev/null", at("null.html")).expect("a link");
    assert!(matches!(log.report(at("null.html")), Err(ReportError::NotAFile { .. })));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing is left behind");
}

#[test]
fn a_report_replaces_one_that_was_there_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let (path, link) = (folder.path().join("r.HTML"), folder.path().join("link.html"));
    fs::write(&path, "before").expect("a file");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    log(vec![run("a", 1, Outcome::Finished)], Vec::new()).report(&link).expect("a report");
    assert!(fs::read_to_string(&path).expect("a report").starts_with("<!doctype html>"));
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(fs::metadata(&path).expect("a report").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
}
