//! The report in a browser: every page, from a file, without a network.

mod samples;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use swath_insight::diagnosis::Extent;
use swath_insight::log::SavedLog;
use swath_insight::source::{Page, SavedSource, Source};

const PAGES: [&str; 9] = ["status", "diagnosis", "tasks", "workers", "memory", "profile", "logs", "deaths", "system"];

/// A browser that opens files, and is cut off from every network where the system permits that.
struct Browser {
    program: PathBuf,
    is_cut_off: bool,
    profile: tempfile::TempDir,
}

/// What a browser made of a page, and what its console says.
struct Opened {
    dom: String,
    console: Vec<String>,
}

impl Browser {
    /// `None` where there is none; then a line says so, or the test fails, as is wished.
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
        let Some(program) = found.into_iter().find(|program| program.is_file()) else {
            // Whatever is captured: who reads what the tests say looks for it.
            let thread = std::thread::current();
            let words = format!("SKIPPED {}: there is no Chromium\n", thread.name().unwrap_or("a test"));
            let _ = std::io::stderr().write_all(words.as_bytes());
            assert!(std::env::var_os("SWATH_TEST_ALL").is_none(), "{words}");
            return None;
        };
        let cut_off = Command::new("unshare").args(["-rn", "true"]).stderr(Stdio::null()).status();
        let is_cut_off = cut_off.is_ok_and(|status| status.success());
        Some(Self { program, is_cut_off, profile: tempfile::tempdir().expect("a folder") })
    }

    fn command(&self) -> Command {
        let mut command = if self.is_cut_off { Command::new("unshare") } else { Command::new(&self.program) };
        if self.is_cut_off {
            command.arg("-rn").arg(&self.program);
        }
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--timeout=60000",
        ]);
        command.arg(format!("--user-data-dir={}", self.profile.path().display()));
        command
    }

    fn open(&self, file: &Path, page: &str, more: &[&str]) -> Opened {
        let url = format!("file://{}#{page}", file.display());
        let output = self.command().args(more).arg("--dump-dom").arg(url).output().expect("the browser is started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let dom = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && dom.contains("</html>"), "{}: {said}", output.status);
        let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_string).collect();
        Opened { dom, console }
    }
}

impl Opened {
    /// The part of the document that is one page.
    fn page(&self, page: &str) -> &str {
        let from =
            self.dom.find(&format!("id=\"page-{page}\"")).unwrap_or_else(|| panic!("no page {page}: {}", self.dom));
        let rest = &self.dom[from..];
        let next = PAGES.iter().filter(|other| **other != page);
        let ends = next.filter_map(|other| rest.find(&format!("id=\"page-{other}\""))).min();
        &rest[..ends.or_else(|| rest.find("</main>")).unwrap_or(rest.len())]
    }

    fn check(&self, what: &str) {
        assert!(self.console.is_empty(), "{what}: {:#?}", self.console);
        assert!(self.dom.contains("data-ready=\"yes\""), "{what} was not shown: {}", self.dom);
        assert!(!self.dom.contains("role=\"alert\""), "{what}: a part of it failed");
        assert!(!self.dom.contains("id=\"plain\""), "{what}: the tables for no script are still there");
    }
}

/// All numbers with their exact value in some HTML.
fn values(html: &str) -> Vec<u64> {
    let elements = html.split("<data ").skip(1).filter_map(|rest| rest.split_once("value=\""));
    elements.filter_map(|(_, value)| value.split('"').next()?.parse().ok()).collect()
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a time of a test")
}

/// The same numbers in all pages as the diagnosis of the log has.
fn compare(log: &SavedLog, opened: &Opened) {
    let diagnosis = log.diagnose(&Extent::default());
    let page = opened.page("diagnosis");
    let shown = values(page);
    let findings = diagnosis
        .findings
        .iter()
        .filter(|finding| page.contains(&finding.advice.replace('`', "")) || finding.advice.contains('`'));
    assert_eq!(findings.count(), diagnosis.findings.len());
    let mut wanted = vec![nanos(diagnosis.wall), nanos(diagnosis.ideal)];
    wanted.extend(diagnosis.critical_path.iter().map(|path| nanos(path.took)));
    wanted.extend(diagnosis.time.ranked().iter().map(|(_, time)| nanos(*time)));
    wanted.extend(diagnosis.names.iter().flat_map(|name| [nanos(name.cost.took), name.cost.runs]));
    for value in wanted {
        assert!(shown.contains(&value), "{value} is not on the page of the diagnosis");
    }
    let summary = log.summary();
    let status = values(opened.page("status"));
    for group in &summary.groups {
        assert!(status.contains(&group.counts.done()), "{group:?}");
    }
    assert!(status.contains(&summary.runs), "{} runs", summary.runs);
}

#[test]
fn every_page_is_shown_without_a_word_on_the_console() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (saved, path) = (folder.path().join("run.swath"), folder.path().join("r.html"));
    let log = samples::flights(&saved, true).expect("a log");
    let source = SavedSource::of(&log).with_profile(samples::profile());
    swath_insight::report::save(&source, &path).expect("a report");
    let opened = browser.open(&path, "all", &[]);
    opened.check("the report");
    compare(&log, &opened);
    let status = source.status().expect("a status");
    assert!(opened.dom.contains(&status.first_line), "{}", status.first_line);
    assert_eq!(opened.page("deaths").matches("class=\"death\"").count(), status.deaths);
    assert!(opened.page("logs").contains("&lt;script&gt;alert('no')&lt;/script&gt;"));
    assert!(opened.page("profile").contains("flights::parse") && opened.page("profile").contains("<canvas"));
    assert!(opened.page("memory").contains("class=\"uplot") && opened.page("memory").contains("worker-3"));
    let workers = source.workers(&Page::default()).expect("workers");
    for worker in &workers.rows {
        assert!(values(opened.page("workers")).contains(&worker.busy_ns), "{}", worker.name);
    }
    assert!(opened.page("tasks").contains("× failed") && opened.page("system").contains("swath-insight"));
}

#[test]
fn a_report_of_nothing_says_what_will_be_there() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.html");
    samples::empty(&folder.path().join("run.swath")).expect("a log").report(&path).expect("a report");
    let opened = browser.open(&path, "all", &[]);
    opened.check("an empty report");
    for page in PAGES.iter().filter(|page| **page != "system") {
        assert!(opened.page(page).contains("class=\"empty\""), "{page}");
    }
}

#[test]
#[ignore = "full insight: each page by itself in a browser, light, dark and on a phone"]
fn each_page_is_shown_by_itself() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.html");
    let log = samples::flights(&folder.path().join("run.swath"), false).expect("a log");
    swath_insight::report::save(&SavedSource::of(&log).with_profile(samples::profile()), &path).expect("a report");
    let looks: [&[&str]; 3] = [
        &[],
        &["--blink-settings=preferredColorScheme=0"],
        &["--window-size=390,844", "--force-device-scale-factor=2"],
    ];
    for page in PAGES {
        for look in looks {
            let opened = browser.open(&path, page, look);
            opened.check(page);
            assert!(opened.page(page).len() > 200 && opened.dom.matches("class=\"page\"").count() == 1, "{page}");
        }
    }
}

#[test]
#[ignore = "full insight: a report of a million tasks, in a browser, too"]
fn a_report_of_a_million_tasks_is_small_and_soon_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("run.swath");
    samples::million(&saved).expect("a log");
    let path = folder.path().join("r.html");
    let began = Instant::now();
    let log = SavedLog::open(&saved).expect("a log");
    log.report(&path).expect("a report");
    let took = began.elapsed();
    let bytes = fs::metadata(&path).expect("a report").len();
    println!("{bytes} bytes in {took:?}");
    assert!(bytes <= 3_000_000, "{bytes} bytes");
    // Without optimisation it says nothing.
    assert!(cfg!(debug_assertions) || took.as_secs_f64() <= 2.0, "{took:?}");
    if let Some(browser) = Browser::find() {
        let opened = browser.open(&path, "all", &[]);
        opened.check("a report of a million tasks");
        compare(&log, &opened);
    }
}

#[test]
fn without_scripts_there_are_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.html");
    let log = samples::flights(&folder.path().join("run.swath"), true).expect("a log");
    log.report(&path).expect("a report");
    let html = fs::read_to_string(&path).expect("a report");
    let (_, plain) = html.split_once("<main id=\"plain\">").expect("tables");
    let (plain, _) = plain.split_once("</main>").expect("tables");
    let diagnosis = log.diagnose(&Extent::default());
    let shown = values(plain);
    assert!(shown.contains(&nanos(diagnosis.wall)) && shown.contains(&nanos(diagnosis.ideal)));
    for name in &diagnosis.names {
        assert!(shown.contains(&nanos(name.cost.took)) && plain.contains(&name.name), "{name:?}");
    }
    for finding in &diagnosis.findings {
        assert!(plain.contains(&finding.advice), "{finding}");
    }
    assert_eq!(plain.matches("took more memory than its limit").count(), 2);
}
