//! What bags must do, run in every mode: in the calling thread, on threads, and in worker processes.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod bag {
    pub mod groups;
    pub mod making;
    pub mod random;
    pub mod reading;
    pub mod reductions;
    pub mod tasks;
    pub mod transforms;
}
mod common;

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
            making: sequences ranges lists_and_lazy_lists generated empty;
            tasks: steps_become_one_task shared_steps_run_once errors_tell_the_place options_are_kept long_chains;
            transforms: element_by_element arguments_for_all whole_partitions tuples parts_by_key samples
                running_results several_bags partitions_by_number partitions_by_size;
            reductions: numbers extremes predicates folds tops tables first_elements of_nothing;
            groups: by_key kept_and_grouped_again errors a_worker_dies;
            reading: one_partition_at_a_time shared_parts_once failing_partitions in_async_code;
            random: transforms reductions tables;
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
                    run(crate::bag::$module::$case);
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
