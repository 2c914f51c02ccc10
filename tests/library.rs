//! swath in a shared library that a program loads: an extension module, a plugin, a cell of a notebook.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use nix::libc;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the library does. The answer is 0, or the number of what went wrong.
const LIBRARY: &str = r#"
use swath::memory::MemoryLimit;
use swath::{Client, Error, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn is_refused(result: swath::Result<Client>) -> bool {
    match result {
        Err(e @ Error::NotInExecutable { .. }) => {
            let text = e.to_string();
            let Error::NotInExecutable { library, executable } = e else { return false };
            library.ends_with("libuses_swath.so")
                && executable == std::env::current_exe().unwrap()
                && text.contains("Client::threads")
        }
        _ => false,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn use_swath() -> i32 {
    let works = |client: Client| delayed(inc).call(1).compute(&client).is_ok_and(|two| two == 2);
    if !works(Client::sync()) {
        return 1;
    }
    if !works(Client::threads(2)) {
        return 2;
    }
    if !is_refused(Client::local(2, 1, MemoryLimit::None)) {
        return 3;
    }
    if !is_refused(Client::connect("nobody")) {
        return 4;
    }
    if !is_refused(swath::local::serve(Client::builder(), |_| ()).map(|()| Client::sync())) {
        return 5;
    }
    0
}
"#;

#[test]
fn in_a_shared_library_threads_work_and_processes_are_refused_before_anything_is_started() {
    let _clean = Clean::start();
    let dir = directory();
    let (source, library) = (path(&dir, "library.rs"), path(&dir, "libuses_swath.so"));
    fs::write(&source, LIBRARY).unwrap();
    let deps = executable().parent().unwrap().to_path_buf();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "uses_swath"])
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("swath={}", newest_library(&deps).display()))
        .args(["-o", &library, &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (name, symbol) = (CString::new(library).unwrap(), CString::new("use_swath").unwrap());
    // SAFETY: the library has a function of that name and type, and stays loaded.
    let answer = unsafe {
        let loaded = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!loaded.is_null());
        let function = libc::dlsym(loaded, symbol.as_ptr());
        assert!(!function.is_null());
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(function)()
    };
    assert_eq!(answer, 0);
    assert_eq!(children_of(std::process::id()), Vec::<u32>::new());
}

/// Builds with other features leave their libraries beside ours; cargo has just built or confirmed the newest.
fn newest_library(deps: &Path) -> PathBuf {
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("libswath-") && name.ends_with(".rlib"))
    };
    let all = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours);
    all.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap()
}
