//! Suites of cases that are run in several modes, each case as a test of its own.
#![allow(unused_imports, unused_macros, reason = "some suites have modes of their own")]

use super::Clean;
use swath::Client;

/// Runs one case with a client of its own, and looks whether the client leaves anything behind.
pub fn run(client: impl FnOnce() -> Client, case: fn(&Client)) {
    let _clean = Clean::start();
    let client = client();
    case(&client);
}

/// A test for each case: a function of a module in `$suite`. `$run` runs it.
macro_rules! cases {
    ($run:expr, $suite:ident; $($module:ident: $($case:ident)*;)*) => {$(
        mod $module {
            $(
                #[test]
                fn $case() {
                    let run: fn(fn(&swath::Client)) = $run;
                    run(crate::$suite::$module::$case);
                }
            )*
        }
    )*};
}

/// A test for each case in each mode: in the calling thread, on threads, and in worker processes.
macro_rules! in_every_mode {
    ($($suite:tt)*) => {
        mod sync {
            crate::common::suite::cases! { |case| crate::common::suite::run(swath::Client::sync, case), $($suite)* }
        }
        mod threads {
            crate::common::suite::cases! { |case| crate::common::suite::run(|| swath::Client::threads(3), case), $($suite)* }
        }
        mod processes {
            crate::common::suite::cases! {
                |case| crate::common::suite::run(|| crate::common::processes(2, 1), case), $($suite)*
            }
        }
    };
}

pub(crate) use {cases, in_every_mode};
