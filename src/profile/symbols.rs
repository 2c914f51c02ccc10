//! Names for addresses, from the tables of this executable and of the libraries that this process has loaded, too.
//!
//! That takes a tenth of a second the first time, and megabytes: so it is done by who reads a profile, which is a process of the
//! same build, and not by workers.

use super::calls;
use super::raw::{Place, RawProfile};
use super::sampler::Modules;
use crate::task::function::{Record, short_name};
use crate::task::image;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use swath_insight::profile::{Frame, FrameOrigin, Profile};

/// Places whose names are remembered.
const MOST_KNOWN: usize = 1 << 16;

/// The functions at a place, outermost first: more than one where the compiler has put some into another.
type Functions = Arc<[Frame]>;

/// Those in the image, which are the same as long as this process lives.
static KNOWN: Mutex<Option<FxHashMap<Place, Functions>>> = Mutex::new(None);

/// Adds what was sampled in a worker of that name.
pub(super) fn add(to: &mut Profile, worker: &str, raw: &RawProfile) {
    if let Some(why) = &raw.off {
        to.note_off(worker, why.clone());
    }
    to.add_lost(raw.lost);
    let mut names = Names::of(raw);
    for (function, name, second, slice) in raw.slices() {
        let name = name.map_or_else(|| name_of(function), str::to_string);
        let mut profile = swath_insight::profile::NameProfile { samples: slice.samples, ..Default::default() };
        profile.on.add_other(slice.on.other());
        for (stack, time) in slice.on.stacks() {
            let functions: Vec<Frame> = stack.into_iter().flat_map(|place| names.at(*place).to_vec()).collect();
            // What runs tasks comes before the task's own function. Where there is none, the task is swath's.
            let first = functions.iter().position(|frame| frame.origin == FrameOrigin::Program).unwrap_or(0);
            profile.on.add(functions.into_iter().skip(first), time);
        }
        to.add(&name, second, &profile);
        for (call, time) in &slice.off {
            to.add_wait(&name, second, &calls::name(*call), Duration::from_nanos(*time));
        }
    }
}

/// The name of tasks of a function.
fn name_of(function: u64) -> String {
    match Record::at(function) {
        Some(record) => short_name(record.path()),
        None if function == 0 => swath_insight::profile::OTHER_NAMES.to_string(),
        // It is in a shared library, which only an in-process mode can call.
        None => "task".to_string(),
    }
}

/// Looks up the names of one profile.
struct Names<'a> {
    raw: &'a RawProfile,
    is_of_this_build: bool,
    /// Where the profile's libraries are in this process. Read when first needed.
    bases: Option<Vec<Option<usize>>>,
    found: FxHashMap<Place, Functions>,
}

impl<'a> Names<'a> {
    fn of(raw: &'a RawProfile) -> Self {
        let is_of_this_build = raw.build == image::build_hash();
        Self { raw, is_of_this_build, bases: None, found: FxHashMap::default() }
    }

    fn at(&mut self, place: Place) -> Functions {
        if let Some(known) = self.found.get(&place) {
            return Arc::clone(known);
        }
        let functions = self.look_up(place);
        self.found.insert(place, Arc::clone(&functions));
        functions
    }

    fn look_up(&mut self, place: Place) -> Functions {
        let one = |function: String, origin| Functions::from([Frame::new(function, origin)]);
        if place == Place::CUT {
            return one("(further out)".to_string(), FrameOrigin::Std);
        }
        if let Some(at) = place.image() {
            let unknown = || one(format!("{at:#x}"), FrameOrigin::Program);
            return if self.is_of_this_build { in_image(place, at).unwrap_or_else(unknown) } else { unknown() };
        }
        let Some((number, offset)) = place.library() else { return one("(unknown)".to_string(), FrameOrigin::Library) };
        let path = self.raw.libraries.get(number).map_or(Path::new("?"), |path| path);
        let name = path.file_name().map_or_else(|| "a library".into(), |name| name.to_string_lossy());
        let found = self.base(number).and_then(|base| {
            let functions = resolve(base.checked_add(usize::try_from(offset).ok()?)?, Some(&name));
            (!functions.is_empty()).then(|| Functions::from(functions))
        });
        found.unwrap_or_else(|| one(name.into_owned(), FrameOrigin::Library))
    }

    /// Where a library of the profile's is in this process.
    fn base(&mut self, number: usize) -> Option<usize> {
        let bases = self.bases.get_or_insert_with(|| {
            let here = Modules::read();
            let base = |path: &Path| here.loaded.iter().find(|module| module.path == path).map(|module| module.base);
            self.raw.libraries.iter().map(|path| base(path)).collect()
        });
        *bases.get(number)?
    }
}

fn in_image(place: Place, at: u64) -> Option<Functions> {
    if let Some(known) = KNOWN.lock().get_or_insert_default().get(&place) {
        return Some(Arc::clone(known));
    }
    let functions = resolve(image::address_in_code(at)?, None);
    let functions = (!functions.is_empty()).then(|| Functions::from(functions))?;
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(place, Arc::clone(&functions));
    Some(functions)
}

/// The functions at an address of this process, outermost first.
fn resolve(address: usize, library: Option<&str>) -> Vec<Frame> {
    let mut functions = Vec::new();
    // It looks before the address that it is given, as it expects one that a call returns to.
    backtrace::resolve(address.wrapping_add(1) as *mut c_void, |symbol| {
        let Some(name) = symbol.name() else { return };
        let name = format!("{name:#}");
        functions.push(match library {
            Some(library) => Frame::new(format!("{name} ({library})"), FrameOrigin::Library),
            None => {
                let origin = symbol.filename().and_then(origin_of_file).unwrap_or_else(|| origin(&name));
                // Of a function that was put into another one, line tables have its own name, with parameters.
                let short = if name.contains("::") { name.as_str() } else { name.split('<').next().unwrap_or(&name) };
                let is_short = !name.starts_with('<') && !short.is_empty() && !short.contains("::");
                Frame::new(if is_short { short } else { &name }, origin)
            }
        });
    });
    functions.reverse();
    functions
}

/// Whose a function is, by the file that it stands in. None: whoever has others than the standard library and swath.
fn origin_of_file(file: &Path) -> Option<FrameOrigin> {
    let text = file.to_string_lossy();
    if text.starts_with("/rustc/") || text.contains("/lib/rustlib/src/rust/library/") {
        return Some(FrameOrigin::Std);
    }
    match own_sources() {
        Some(own) if file.starts_with(own) => Some(FrameOrigin::Swath),
        Some(_) => Some(FrameOrigin::Program),
        None => None,
    }
}

/// The folder with swath's sources, as the line tables name it.
fn own_sources() -> Option<&'static Path> {
    static SOURCES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let mut found = None;
        backtrace::resolve((own_sources as *const () as usize).wrapping_add(1) as *mut c_void, |symbol| {
            let this = Path::new("src").join("profile").join("symbols.rs");
            let folder = |file: &Path| file.ends_with(&this).then(|| file.ancestors().nth(2).map(Path::to_path_buf));
            found = found.take().or_else(|| symbol.filename().and_then(folder).flatten());
        });
        found
    };
    SOURCES.get_or_init(find).as_deref()
}

/// Whose a function is, by its path.
fn origin(path: &str) -> FrameOrigin {
    // `<A as B>::f` is A's where that is a type of a crate, else (a parameter, a reference, a tuple) B's.
    let inner = path.trim_start_matches(['<', '&', '*', '(', '[']);
    let inner = ["mut ", "const ", "dyn "].iter().fold(inner, |inner, word| inner.strip_prefix(word).unwrap_or(inner));
    let is_qualified = path.starts_with('<');
    let head = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_string();
    let own = inner.split([' ', '<', '>', ',']).next().unwrap_or("");
    let krate = match inner.split_once(" as ") {
        Some((_, of_trait)) if is_qualified && !own.contains("::") => head(of_trait),
        _ => head(inner),
    };
    match krate.as_str() {
        "std" | "core" | "alloc" | "proc_macro" | "std_detect" | "compiler_builtins" | "panic_unwind"
        | "rustc_demangle" => FrameOrigin::Std,
        "swath" | "swath_insight" | "framehop" => FrameOrigin::Swath,
        name if name.starts_with("__rust") || name == "rust_begin_unwind" || name == "rust_panic" => FrameOrigin::Std,
        _ => FrameOrigin::Program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_their_crates() {
        use FrameOrigin::{Program, Std, Swath};
        for (path, expected) in [
            ("app::parse", Program),
            ("main", Program),
            ("serde_json::de::from_str", Program),
            ("core::slice::sort::quicksort", Std),
            ("std::rt::lang_start::{{closure}}", Std),
            ("<alloc::vec::Vec<T> as core::iter::traits::collect::FromIterator<T>>::from_iter", Std),
            ("<app::Parser as core::fmt::Display>::fmt", Program),
            ("<&app::Parser as core::fmt::Debug>::fmt", Program),
            ("<F as core::ops::function::FnOnce<A>>::call_once", Std),
            ("<&mut F as core::ops::function::FnOnce<A>>::call_once", Std),
            ("<T as app::Work>::work", Program),
            ("swath::task::call::guarded", Swath),
            (
                "swath::task::function::<impl swath::task::function::TaskFunction<(A0,),R> for F>::RECORD::{{closure}}",
                Swath,
            ),
            ("<swath::worker::Scope as swath::task::context::TaskScope>::info", Swath),
            ("core::ptr::drop_in_place<app::Parser>", Std),
            ("__rust_begin_short_backtrace", Std),
            ("swathe::f", Program),
        ] {
            assert_eq!(origin(path), expected, "{path}");
        }
    }

    #[test]
    fn an_address_has_the_name_of_its_function() {
        let functions = resolve(short_name as *const () as usize, None);
        assert!(functions.iter().any(|frame| frame.function.contains("short_name")), "{functions:?}");
        assert!(functions.iter().all(|frame| frame.origin == FrameOrigin::Swath), "{functions:?}");
    }

    #[test]
    fn places_of_another_build_have_no_names() {
        let mut raw = RawProfile::new();
        raw.build ^= 1;
        let task = super::super::threads::TaskKind { function: 1, name: Some("t".to_string()) };
        let library = raw.library(Path::new("/nowhere/libx.so"));
        let stack = [Place::CUT, Place::in_image(0x1000), Place::in_library(library, 5), Place::NOWHERE];
        raw.at(&task, 5).on.add(stack, 7);
        let mut profile = Profile::default();
        add(&mut profile, "worker-0", &raw);
        let all = profile.folded_text(swath_insight::profile::Frames::All);
        assert_eq!(all, "t;0x1000;libx.so;(unknown) 0\n");
    }
}
