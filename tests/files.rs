//! What reading and writing files must do, run in every mode.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod files {
    pub mod bad_input;
    pub mod listing;
    pub mod reading;
    pub mod splitting;
    pub mod writing;
}

use common::Clean;
use swath::Client;

/// Runs one case with a client of its own, and looks whether the client leaves anything behind.
fn run(client: impl FnOnce() -> Client, case: fn(&Client)) {
    let _clean = Clean::start();
    let client = client();
    case(&client);
}

/// A test for each case of the suite, in the module it is invoked in.
macro_rules! suite {
    ($run:expr) => {
        cases! { $run;
            reading: files_in_order blocks several_files_for_a_task compressed_files encodings delimiters json_lines
                csv_records strings_are_spared empty_files;
            bad_input: files_that_went_away files_that_changed half_a_compressed_file lines_that_are_no_text
                bad_json bad_csv what_is_wrong_in_a_later_block bad_headers;
            writing: lines_come_back names_and_places json_lines failed_writes_leave_nothing files_are_replaced
                places_that_cannot_be_written described_once_written_twice
                killed_writers_leave_nothing;
        }
    };
}

macro_rules! cases {
    ($run:expr; $($module:ident: $($case:ident)*;)*) => {$(
        mod $module {
            $(
                #[test]
                fn $case() {
                    let run: fn(fn(&swath::Client)) = $run;
                    run(crate::files::$module::$case);
                }
            )*
        }
    )*};
}

mod sync {
    suite!(|case| crate::run(swath::Client::sync, case));
}

mod threads {
    suite!(|case| crate::run(|| swath::Client::threads(3), case));
}

mod processes {
    suite!(|case| crate::run(|| crate::common::processes(2, 1), case));
}
