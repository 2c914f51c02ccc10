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

#[test]
fn the_sources_keep_the_rules() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let report = house::rules::check(&SourceTree::read(&directory), &HOUSE);
    assert!(report.is_clean(), "\n{report}");
}
