//! The check tried on small made-up crates: each rule kept and broken.

use super::report::Report;
use super::rules::{Floor, House, check, floor};
use super::source::SourceTree;

const FLOORS: &[Floor] = &[floor(1, &["low"]), floor(2, &["left", "right"]), floor(3, &["high"]), floor(4, &["attic"])];

const SAMPLE: House = House {
    floors: FLOORS,
    later: &["attic"],
    known_import: None,
    max_lines: 12,
    unsafe_modules: &["low::metal"],
    unsafe_attribute_files: &["high.rs"],
    actor_modules: &["high"],
    plain_modules: &["high::core"],
    upward: &[],
    long_files: &[],
    unsafe_files: &[],
    actor_files: &[],
};

/// The crate that each sample changes: four modules, one on the ground, two side by side, one on top.
const CRATE: &[(&str, &str)] = &[
    ("lib.rs", "mod high;\nmod left;\nmod low;\nmod right;\npub use high::High;\npub use low::Low as Ground;"),
    ("high.rs", "pub struct High;\npub fn act() {}\npub const LIMIT: u32 = 1;"),
    ("left.rs", "pub struct Left;"),
    ("low.rs", "pub struct Low;"),
    ("right.rs", "pub struct Right;"),
];

fn tree(changes: &[(&str, &str)]) -> SourceTree {
    let unchanged = CRATE.iter().filter(|(path, _)| !changes.iter().any(|(changed, _)| changed == path));
    SourceTree::of(&unchanged.chain(changes).copied().collect::<Vec<_>>())
}

fn report(changes: &[(&str, &str)]) -> Report {
    check(&tree(changes), &SAMPLE)
}

#[track_caller]
fn assert_clean(changes: &[(&str, &str)]) {
    assert_violations(&report(changes), &[]);
}

/// Checks that the violations are as many as `expected`, in their order, and that each begins with the one text and has the other.
#[track_caller]
fn assert_violations(report: &Report, expected: &[(&str, &str)]) {
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    let are_equal = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, (start, part))| found.starts_with(start) && found.contains(part));
    assert!(are_equal, "expected {expected:#?}, found {found:#?}");
}

/// Checks that `low.rs` with this text imports `high` at the given lines, and breaks no other rule.
#[track_caller]
fn assert_upward(text: &str, lines: &[usize]) {
    let starts: Vec<_> = lines.iter().map(|line| format!("src/low.rs:{line}: forbidden import")).collect();
    let expected: Vec<_> = starts
        .iter()
        .map(|start| (start.as_str(), "`low` (floor 1) must not import `high` (floor 3), which is not below it"))
        .collect();
    assert_violations(&report(&[("low.rs", text)]), &expected);
}

#[test]
fn an_unchanged_crate_is_clean() {
    assert_clean(&[]);
    assert_clean(&[("high.rs", "pub struct High;\nuse crate::{left::Left, low, right};\nfn f(_: low::Low) {}")]);
}

#[test]
fn imports_run_downwards() {
    assert_upward("pub struct Low;\nuse crate::high::High;", &[2]);
    let sideways = report(&[("left.rs", "use crate::right::Right;")]);
    let message = "`left` (floor 2) must not import `right` (floor 2), which is not below it: crate::right::Right";
    assert_violations(&sideways, &[("src/left.rs:1: forbidden import", message)]);
    let root = report(&[("low.rs", "pub struct Low;\nuse crate::*;")]);
    assert_violations(&root, &[("src/low.rs:2: forbidden import", "`lib.rs` (the root, above all floors)")]);
}

#[test]
fn groups_globs_and_names_of_imports() {
    assert_upward("pub struct Low;\nuse crate::{\n    low::Low as L,\n    high::{self, act},\n};", &[4, 4]);
    assert_upward("pub struct Low;\nuse crate::{{high::{{High}}}};", &[2]);
    assert_upward("pub struct Low;\nuse crate::high::*;", &[2]);
    assert_upward("pub struct Low;\nuse crate::high::High as _;", &[2]);
    assert_upward("pub struct Low;\nuse crate as c;\nfn f() { c::high::act() }", &[3]);
    assert_upward("pub struct Low;\nuse crate::high as h;\nfn f() {\n    h::act()\n}", &[2, 4]);
    assert_clean(&[("low.rs", "pub struct Low;\nuse std::{fmt, io::{self, Read as _}};\nuse ::high::High;")]);
}

#[test]
fn relative_paths() {
    assert_upward("pub struct Low;\nuse super::high::High;", &[2]);
    assert_upward("pub struct Low;\nuse self::super::high;", &[2]);
    assert_upward(
        "pub struct Low;\nmod inner {\n    mod core {\n        use super::super::super::high::High;\n    }\n}",
        &[4],
    );
    assert_clean(&[("low.rs", "pub struct Low;\nmod inner {\n    use super::Low;\n    use self::super::Low as L;\n}")]);
    assert_clean(&[(
        "low.rs",
        "pub struct Low;\nmod high { pub fn act() {} }\nfn f() { high::act(); self::high::act() }",
    )]);
}

#[test]
fn paths_outside_of_imports() {
    assert_upward("pub struct Low;\nfn f() {\n    crate::high::act()\n}", &[3]);
    assert_upward("pub struct Low(crate::high::High);", &[1]);
    assert_upward(
        "pub struct Low;\nfn f(x: u32) -> bool {\n    matches!(x, 0) || match x { crate::high::LIMIT => true, _ => false }\n}",
        &[3],
    );
    assert_upward("pub struct Low;\nfn f() -> Vec<Option<crate::high::High>> { Vec::new() }", &[2]);
    assert_upward("pub struct Low;\nfn f<T>() where T: Into<crate::high::High> {}", &[2]);
    assert_upward("pub struct Low;\nimpl From<crate::high::High> for Low {}", &[2]);
    assert_upward("pub struct Low;\nfn f() { let _ = <u8 as crate::high::Act>::act(); }", &[2]);
    assert_clean(&[(
        "low.rs",
        "pub struct Low;\nimpl Low { fn high(&self) {} }\nfn f(low: Low) { let high = low; high.high() }",
    )]);
}

#[test]
fn attributes_and_visibility() {
    assert_upward("#[crate::high::act]\npub struct Low;", &[1]);
    assert_upward("#[derive(Clone, crate::high::Act)]\npub struct Low;", &[1]);
    assert_upward("pub struct Low {\n    #[serde(with = \"crate::high\")]\n    x: u8,\n}", &[2]);
    assert_upward("pub struct Low {\n    pub(in crate::high) x: u8,\n}", &[2]);
    assert_clean(&[(
        "low.rs",
        "/// As [`crate::high::High`].\npub(crate) struct Low {\n    pub(in crate::low) x: u8,\n}",
    )]);
}

#[test]
fn imports_in_blocks() {
    assert_upward("pub struct Low;\nfn f() {\n    use crate::high;\n    if true { high::act() }\n}", &[3, 4]);
    assert_upward("pub struct Low;\nfn f() {\n    mod inner {\n        use crate::high::act;\n    }\n}", &[4]);
    assert_clean(&[(
        "low.rs",
        "pub struct Low;\nfn f() { use crate::low as high; high::act() }\nfn g() { high::act() }",
    )]);
}

#[test]
fn tokens_of_macros() {
    assert_upward("pub struct Low;\nfn f() {\n    println!(\"{:?}\", crate::high::act());\n}", &[3]);
    assert_upward("pub struct Low;\nfn f() { vec![vec![super::high::LIMIT]]; }", &[2]);
    assert_upward("pub struct Low;\nmacro_rules! m {\n    () => { $crate::high::act() };\n}", &[3]);
    assert_upward("pub struct Low;\nmake! {\n    use crate::{low::Low as L, high::{High, act}};\n}", &[3, 3]);
    assert_upward("pub struct Low;\nuse crate::high;\nfn f() { println!(\"{}\", high::LIMIT); }", &[2, 3]);
    assert_clean(&[(
        "low.rs",
        "pub struct Low;\nmacro_rules! m {\n    ($high:ident) => { $high::act(high::X, crate::low::Low) };\n}",
    )]);
}

#[test]
fn macros_of_other_modules() {
    let high = ("high.rs", "pub struct High;\n#[macro_export]\nmacro_rules! act { () => {}; }");
    let by_path = report(&[high, ("low.rs", "pub struct Low;\nfn f() { crate::act!() }")]);
    assert_violations(&by_path, &[("src/low.rs:2: forbidden import", "`high` (floor 3)")]);
    let by_name = report(&[high, ("low.rs", "pub struct Low;\nfn f() { act!() }")]);
    assert_violations(&by_name, &[("src/low.rs:2: forbidden import", "`high` (floor 3)")]);
    assert_clean(&[high, ("low.rs", "pub struct Low;\nmacro_rules! act { () => {}; }\nfn f() { act!() }")]);
}

#[test]
fn names_of_the_root_count_as_what_they_stand_for() {
    assert_upward("pub struct Low;\nuse crate::High;", &[2]);
    assert_upward("pub struct Low;\nfn f(_: super::High) {}", &[2]);
    assert_clean(&[("left.rs", "use crate::Ground;\nfn f() -> crate::Ground { Ground }")]);
    let own =
        ("lib.rs", "mod high;\nmod left;\nmod low;\nmod right;\npub struct Own;\npub mod bench { pub fn f() {} }");
    let report = report(&[own, ("low.rs", "use crate::Own;\nfn f() { crate::bench::f() }")]);
    let root = "must not import `lib.rs`";
    assert_violations(&report, &[("src/low.rs:1:", root), ("src/low.rs:2:", root)]);
}

#[test]
fn re_exports_are_followed() {
    let left = ("left.rs", "pub use crate::low::Low;\npub use inner::Deep;\nmod inner { pub struct Deep; }");
    assert_clean(&[left, ("high.rs", "pub use crate::left::{Deep, Low};\npub struct High;")]);
    let lib = "mod high;\nmod left;\nmod low;\nmod right;\npub use right::High;\npub use left::*;";
    let right = ("right.rs", "pub use self::inner::High;\nmod inner { pub use crate::high::*; }");
    let chain = report(&[("lib.rs", lib), left, right, ("low.rs", "pub struct Low;\nuse crate::{High, Deep};")]);
    assert_violations(
        &chain,
        &[
            ("src/left.rs:1: import circle: `left` -> `low` -> `left` (src/left.rs:1, src/low.rs:2)", ""),
            ("src/low.rs:2: forbidden import", "`high` (floor 3), which is not below it: crate::High"),
            ("src/low.rs:2: forbidden import", "`left` (floor 2), which is not below it: crate::Deep"),
            ("src/right.rs:1: forbidden import", "`high` (floor 3)"),
            ("src/right.rs:2: forbidden import", "`high` (floor 3)"),
        ],
    );
    let named = report(&[left, ("right.rs", "use crate::left::Low;")]);
    assert_violations(&named, &[("src/right.rs:1: forbidden import", "`left` (floor 2)")]);
}

#[test]
fn names_that_lead_to_themselves_end() {
    let lib = "mod high;\nmod left;\nmod low;\nmod right;\npub use high::High;\npub use log::log;\npub use a::a;\npub use self::*;";
    let high = "pub struct High;\npub use crate::high::*;\npub use super::*;\nfn f() { unknown::f() }\nuse b as c;\nuse c as b;";
    let report = report(&[("lib.rs", lib), ("high.rs", high)]);
    assert_violations(&report, &[("src/high.rs:3: forbidden import", "`lib.rs`")]);
}

#[test]
fn modules_in_files_and_directories() {
    let inner = "pub struct Inner;\nuse crate::high::High;";
    let lib = ("low.rs", "pub mod inner;\npub struct Low;");
    let expected = "`low` (floor 1) must not import `high`";
    let beside = report(&[lib, ("low/inner.rs", inner)]);
    assert_violations(&beside, &[("src/low/inner.rs:2: forbidden import", expected)]);
    let directory = report(&[lib, ("low/inner/mod.rs", inner)]);
    assert_violations(&directory, &[("src/low/inner/mod.rs:2: forbidden import", expected)]);
    let elsewhere = report(&[("low.rs", "#[path = \"other/place.rs\"]\nmod inner;"), ("other/place.rs", inner)]);
    assert_violations(&elsewhere, &[("src/other/place.rs:2: forbidden import", expected)]);
    let nested = ("low.rs", "pub struct Low;\nmod outer {\n    mod inner;\n    use inner::Inner;\n}");
    assert_violations(&report(&[nested, ("low/outer/inner.rs", inner)]), &[("src/low/outer/inner.rs:2:", expected)]);
    let child = [lib, ("low/inner.rs", "pub use super::super::high as up;")];
    assert_violations(&report(&child), &[("src/low/inner.rs:1: forbidden import", expected)]);
}

#[test]
fn tests_may_import_anything() {
    let items =
        "#[cfg(test)]\nuse crate::high::High;\n#[cfg(all(test, feature = \"x\"))]\nmod tests { use crate::high; }\n";
    assert_clean(&[("low.rs", &format!("{items}#[test]\nfn f() {{ crate::high::act() }}\npub struct Low;"))]);
    assert_clean(&[("low.rs", "impl Low {\n    #[cfg(test)]\n    fn f() { crate::high::act() }\n}\npub struct Low;")]);
    assert_clean(&[("low.rs", "fn f() {\n    #[cfg(test)]\n    crate::high::act();\n}\npub struct Low;")]);
    let files = [("low/tests.rs", "mod deep;\nuse crate::high;"), ("low/tests/deep.rs", "use crate::high;")];
    assert_clean(&[("low.rs", "#[cfg(test)]\nmod tests;\npub struct Low;"), files[0], files[1]]);
    assert_clean(&[("low.rs", "mod tests;\npub struct Low;"), ("low/tests.rs", "#![cfg(test)]\nuse crate::high;")]);
    assert_upward("pub struct Low;\n#[cfg(not(test))]\nuse crate::high;", &[3]);
    assert_upward("pub struct Low;\n#[cfg(any(test, unix))]\nuse crate::high;", &[3]);
}

#[test]
fn exceptions_are_exact() {
    let upward = [("low.rs", "pub struct Low;\nuse crate::high::High;")];
    let listing = House { upward: &[("low", "high")], ..SAMPLE };
    assert_violations(&check(&tree(&upward), &listing), &[]);
    let gone = check(&tree(&[]), &listing);
    assert_violations(&gone, &[("tests/house/floors.rs: UPWARD lists (\"low\", \"high\"), which is gone", "")]);
    assert!(gone.to_string().contains("const UPWARD: &[(&str, &str)] = &[];"), "{gone}");
    let new = report(&upward).to_string();
    assert!(new.contains("const UPWARD: &[(&str, &str)] = &[(\"low\", \"high\")];"), "{new}");
    let files = House { long_files: &["a.rs"], unsafe_files: &["b.rs"], actor_files: &["c.rs"], ..SAMPLE };
    let expected = ["ACTOR_FILES lists \"c.rs\"", "LONG_FILES lists \"a.rs\"", "UNSAFE_FILES lists \"b.rs\""];
    assert_violations(&check(&tree(&[]), &files), &expected.map(|part| ("tests/house/floors.rs", part)));
}

#[test]
fn circles_are_told() {
    let circle = [("left.rs", "use crate::right::Right;"), ("right.rs", "use crate::left::Left;")];
    let message = "import circle: `left` -> `right` -> `left` (src/left.rs:1, src/right.rs:1)";
    let sideways = [("src/left.rs:1: forbidden", ""), ("src/left.rs:1:", message), ("src/right.rs:1: forbidden", "")];
    assert_violations(&report(&circle), &sideways);
    let long = [("low.rs", "use crate::high;"), ("high.rs", "use crate::left;"), ("left.rs", "use crate::low;")];
    let expected = [
        ("src/high.rs:1: import circle: `high` -> `left` -> `low` -> `high`", ""),
        ("src/low.rs:1: forbidden import", ""),
    ];
    let lib = ("lib.rs", "mod high;\nmod left;\nmod low;\nmod right;");
    assert_violations(&report(&[lib, long[0], long[1], long[2]]), &expected);
}

#[test]
fn long_files_are_told() {
    let lines = |count: usize| "const X: u8 = 1;\n".repeat(count);
    assert_clean(&[("left.rs", &lines(12))]);
    assert_violations(
        &report(&[("left.rs", &lines(13))]),
        &[("src/left.rs: 13 lines outside tests, more than 12", "")],
    );
    let tests = format!("/// Tests.\n#[cfg(test)]\nmod tests {{\n{}}}\n", lines(20));
    assert_clean(&[("left.rs", &format!("{}{tests}", lines(12)))]);
    let both = report(&[("left.rs", &format!("{}{tests}", lines(13)))]);
    assert_violations(&both, &[("src/left.rs: 13 lines", "")]);
    assert_clean(&[("left.rs", "#[cfg(test)]\nmod tests;"), ("left/tests.rs", &lines(20))]);
    let listing = House { long_files: &["left.rs"], ..SAMPLE };
    assert_violations(&check(&tree(&[("left.rs", &lines(13))]), &listing), &[]);
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    let code = [
        "fn f() { unsafe { g() } }",
        "unsafe fn f() {}",
        "unsafe impl Send for Left {}",
        "unsafe trait T {}",
        "unsafe extern \"C\" { fn f(); }",
        "impl Left { unsafe extern \"C\" fn f() {} }",
        "trait T { unsafe fn f(); }",
        "fn f() { m!(unsafe { g() }) }",
        "m! { unsafe impl Send for Left {} }",
        "m! { unsafe extern \"C\" fn f() {} }",
    ];
    for line in code {
        let report = report(&[("left.rs", line)]);
        assert_violations(&report, &[("src/left.rs:1: ", "outside `low::metal`")]);
        let inside = format!("pub struct Low;\nmod metal {{\n{line}\n}}");
        assert_clean(&[("low.rs", &inside)]);
    }
    assert_clean(&[(
        "left.rs",
        "type F = unsafe fn();\nm! { unsafe extern \"C\" fn() }\n#[cfg(test)]\nunsafe fn f() {}",
    )]);
    let listing = House { unsafe_files: &["left.rs"], ..SAMPLE };
    assert_violations(&check(&tree(&[("left.rs", code[0])]), &listing), &[]);
}

#[test]
fn unsafe_attributes_stay_where_they_may_be() {
    let attribute = "#[unsafe(no_mangle)]\nfn f() {}\n";
    let outside = report(&[("left.rs", attribute)]);
    assert_violations(&outside, &[("src/left.rs:1: unsafe attribute outside", "")]);
    assert_clean(&[("high.rs", &format!("{attribute}pub struct High;"))]);
    let twice = report(&[("high.rs", &format!("pub struct High;\n{attribute}{attribute}"))]);
    assert_violations(&twice, &[("src/high.rs:4: a second unsafe attribute", "")]);
}

#[test]
fn actors_stay_where_they_may_be() {
    let code = [
        "use actix::prelude::*;",
        "use actix_rt as runtime;",
        "extern crate actix;",
        "fn f() { actix::spawn(g()) }",
        "#[actix::main]\nasync fn f() {}",
        "#[derive(actix::Message)]\nstruct M;",
        "fn f() { select!(actix_rt::time::sleep(x)) }",
        "fn f(_: &impl ::actix::Actor) {}",
    ];
    for line in code {
        let outside = report(&[("left.rs", line)]);
        assert_violations(&outside, &[("src/left.rs:1: actor outside `high`", "actix")]);
        assert_clean(&[("high.rs", &format!("pub struct High;\n{line}"))]);
        let plain = report(&[("high.rs", &format!("pub struct High;\nmod core {{\n{line}\n}}"))]);
        assert_violations(&plain, &[("src/high.rs:3: actor in a module of plain state (`high::core`)", "actix")]);
    }
    let passed_on = ("high.rs", "pub struct High;\npub use actix::Addr;\nmod core { use super::Addr; }");
    assert_violations(&report(&[passed_on]), &[("src/high.rs:3: actor in a module of plain state", "super::Addr")]);
    assert_clean(&[(
        "left.rs",
        "#[cfg(test)]\nuse actix::Addr;\nmod actix { pub struct Addr; }\nfn f(_: actix::Addr) {}",
    )]);
    let listing = House { actor_files: &["left.rs"], ..SAMPLE };
    assert_violations(&check(&tree(&[("left.rs", code[0])]), &listing), &[]);
}

#[test]
fn every_module_is_on_a_floor() {
    let lib = "mod high;\nmod left;\nmod low;\nmod right;\nmod cellar;\npub use high::High;\npub mod internal {}";
    let unknown = report(&[("lib.rs", lib), ("cellar.rs", "")]);
    assert_violations(&unknown, &[("tests/house/floors.rs: module `cellar` of src/ is on no floor", "")]);
    let later = report(&[("lib.rs", &format!("{}\nmod attic;", CRATE[0].1)), ("attic.rs", "")]);
    assert_violations(&later, &[("tests/house/floors.rs: LATER lists `attic`, which exists now", "")]);
    let absent = check(&tree(&[]), &House { later: &[], ..SAMPLE });
    let message = "tests/house/floors.rs: the table of floors names `attic`, which is not a module of src/";
    assert_violations(&absent, &[(message, "")]);
    const TWICE: &[Floor] = &[floor(1, &["low", "left", "right"]), floor(2, &["high", "low"])];
    let twice = check(&tree(&[]), &House { floors: TWICE, later: &[], ..SAMPLE });
    assert_violations(&twice, &[("tests/house/floors.rs: `low` is on two floors", "")]);
}

#[test]
fn sources_that_cannot_be_used_are_told() {
    let broken = report(&[("low.rs", "pub struct Low;\nfn f( {}\n")]);
    let messages: Vec<_> = broken.violations.iter().map(ToString::to_string).collect();
    assert!(messages.iter().any(|text| text.starts_with("src/low.rs:2: cannot be parsed: ")), "{messages:?}");
    let unreadable = check(&tree(&[]).with_unreadable("low.rs", "stream did not contain valid UTF-8"), &SAMPLE);
    let expected = [("src/low.rs: cannot be read: stream did not", ""), ("tests/house/floors.rs", "names `low`")];
    assert_violations(&unreadable, &expected);
    let missing = report(&[("low.rs", "pub struct Low;\nmod inner;")]);
    assert_violations(&missing, &[("src/low.rs:2: `mod inner;` has no file: low/inner.rs or low/inner/mod.rs", "")]);
    let unreached = report(&[("low/forgotten.rs", "use crate::high;")]);
    assert_violations(&unreached, &[("src/low/forgotten.rs: no `mod` declaration leads to this file", "")]);
    let test = [("low.rs", "pub struct Low;\n#[cfg(test)]\nmod tests;"), ("low/tests.rs", "fn f( {}")];
    assert_violations(&report(&test), &[("src/low/tests.rs:1: cannot be parsed", "")]);
}

#[test]
fn seeing_nothing_is_a_failure() {
    let empty = check(&SourceTree::default(), &SAMPLE);
    assert!(empty.to_string().contains("src/lib.rs: is missing: no source was read"), "{empty}");
    assert!(empty.to_string().contains("names `low`, which is not a module"), "{empty}");
    let gone = check(&SourceTree::read(std::path::Path::new("/nowhere/at/all")), &SAMPLE);
    assert!(gone.to_string().contains("cannot be read: No such file or directory"), "{gone}");
    let known = House { known_import: Some(("high", "low")), ..SAMPLE };
    assert_violations(&check(&tree(&[("high.rs", "pub struct High;\nuse crate::low;")]), &known), &[]);
    let blind = check(&tree(&[]), &known);
    assert_violations(&blind, &[("tests/house/floors.rs: no import of `low` by `high` was found", "")]);
}
