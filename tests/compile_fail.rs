//! Wrong programs must not compile, and the message must help somebody who is new to swath.
//!
//! Each file of `tests/compile_fail` is a program. Every `//~ text` line in it must occur in what the compiler says; a
//! program without such lines must compile, which shows that the others fail for no other reason than theirs.
//! The compiler is called directly, on the library that cargo has built for this test: nothing is built twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

#[test]
fn messages_of_the_compiler() {
    let deps = deps_dir();
    let library = newest_library(&deps);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    fs::create_dir_all(&out).expect("the target directory is writable");

    let mut programs: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail"))
        .expect("the directory is part of the project")
        .map(|entry| entry.expect("the directory is readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect();
    programs.sort();
    assert!(programs.len() >= 2, "no programs found");

    // Two at a time: a compiler takes some 150 MB.
    let mut complaints = Vec::new();
    for pair in programs.chunks(2) {
        thread::scope(|scope| {
            let runs: Vec<_> =
                pair.iter().map(|program| scope.spawn(|| check(program, &deps, &library, &out))).collect();
            for run in runs {
                complaints.extend(run.join().expect("a check does not panic").err());
            }
        });
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Compiles one program and compares what the compiler says with what the program wants.
fn check(program: &Path, deps: &Path, library: &Path, out: &Path) -> Result<(), String> {
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    let source = fs::read_to_string(program).map_err(|e| format!("{name}: {e}"))?;
    let wanted: Vec<&str> = source.lines().filter_map(|line| line.trim().strip_prefix("//~ ")).collect();

    // An object file, because constant assertions are only evaluated where code is generated.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit=obj"])
        .args(["--color", "never", "--diagnostic-width", "400"])
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("swath={}", library.display()))
        .arg("-o")
        .arg(out.join(format!("{name}.o")))
        .arg(program)
        .output()
        .map_err(|e| format!("{name}: can't start the compiler: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);

    if wanted.is_empty() {
        return match output.status.success() {
            true => Ok(()),
            false => Err(format!("{name}: must compile, but:\n{said}")),
        };
    }
    if output.status.success() {
        return Err(format!("{name}: compiled, but must not"));
    }
    // Where a long message is broken into lines is the compiler's business.
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing: Vec<&str> = wanted.into_iter().filter(|text| !words.contains(text)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("{name}: the message lacks {missing:?}:\n{said}")),
    }
}

/// Where cargo put this test and the libraries it is linked to.
fn deps_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("Linux tells a process its executable");
    exe.parent().expect("an executable lies in a directory").to_path_buf()
}

/// Builds with other features leave their libraries beside ours; cargo has just built or confirmed the newest.
fn newest_library(deps: &Path) -> PathBuf {
    fs::read_dir(deps)
        .expect("the directory of this executable is readable")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            (name.starts_with("libswath-") && name.ends_with(".rlib")).then_some(())?;
            let modified: SystemTime = path.metadata().ok()?.modified().ok()?;
            Some((modified, path))
        })
        .max()
        .expect("cargo builds the library before its tests")
        .1
}
