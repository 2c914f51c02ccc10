//! The rules of the house: which module of `src/` may import which, how long a file may be, and where `unsafe` code and
//! actors may stand. `house/floors.rs` has the table of floors and the lists of exceptions.
#![allow(unreachable_pub, reason = "the modules of a test are private to it")]

mod house {
    pub mod attributes;
    pub mod crate_model;
    pub mod floors;
    pub mod reader;
    pub mod report;
    pub mod rules;
    mod samples;
    pub mod scopes;
    pub mod source;
    pub mod tokens;
}

use std::path::Path;

use house::floors::HOUSE;
use house::source::SourceTree;

/// The names at the root of the crate that its documentation lists, modules included.
fn front_page(lib: &str) -> Vec<String> {
    let (mut names, mut hidden, mut item) = (Vec::new(), false, String::new());
    for line in lib.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if item.is_empty() && line.starts_with("#[") {
            hidden |= line == "#[doc(hidden)]";
            continue;
        }
        // What is indented is inside of a module or function.
        if item.is_empty() && line.starts_with(' ') {
            continue;
        }
        item += line;
        if item.starts_with("pub use ") && !item.ends_with(';') {
            continue;
        }
        let item = std::mem::take(&mut item);
        if std::mem::take(&mut hidden) {
            continue;
        }
        let listed = match (item.strip_prefix("pub mod "), item.strip_prefix("pub use ")) {
            (Some(module), _) => module.trim_end_matches([' ', ';', '{']),
            (_, Some(path)) => path.rsplit("::").next().unwrap_or_default().trim_matches(['{', '}', ';']),
            _ => "",
        };
        names.extend(listed.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    }
    names
}

#[test]
fn the_front_page_lists_what_nearly_every_program_names() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let names = front_page(&lib.expect("lib.rs can be read"));
    assert!(names.iter().any(|name| name == "Client") && names.iter().any(|name| name == "files"), "{names:?}");
    assert!(names.len() <= 25, "{} names: {names:?}; give the rest a home in one of the modules", names.len());
}

#[test]
fn the_sources_keep_the_rules() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let report = house::rules::check(&SourceTree::read(&directory), &HOUSE);
    assert!(report.is_clean(), "\n{report}");
}
