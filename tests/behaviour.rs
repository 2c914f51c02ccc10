//! One suite of what a client must do, run in every mode: in the calling thread, on threads, and in worker processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behaviour {
    pub mod arguments;
    pub mod calls;
    pub mod concurrent;
    pub mod errors;
    pub mod large;
    pub mod nested;
    pub mod operators;
    pub mod options;
    pub mod processes;
    pub mod random;
    pub mod runtimes;
    pub mod same;
    pub mod sharing;
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
    ($client:expr) => {
        cases! { $client;
            arguments: up_to_eight values_of_every_kind delayed_values_and_futures lists_of_handles lists_and_values
                nested_lists arrays tuples options maps text collected empty_inputs;
            operators: arithmetic bits_and_comparisons scalars_on_both_sides sums_and_products indexing unpacking
                methods;
            calls: loops_and_conditions course_patterns diamonds_and_trees compute_many_at_once persisted_values
                submitted_and_gathered mapped scattered_and_broadcast as_completed_gives_all wait_for_all_and_any
                time_limits_of_waits the_longest_time_limits cancelling retrying explaining_and_progress futures_in_later_graphs
                foreign_and_closed_clients describing task_context status_and_debug cancelling_before_others_use_it
                a_mix_of_ready_and_failed;
            sharing: shared_parts_run_once pure_calls_run_once pure_results_that_are_held_are_used
                persisted_tasks_do_not_run_again moved_and_cloned_values keys_and_names;
            errors: typed_errors_are_kept typed_errors_reach_dependents panics_tell_where other_panics
                others_go_on the_first_failure_counts try_map_and_chains results_as_plain_values
                failures_of_operators error_of_a_persisted_value unencodable_values undecodable_values;
            options: names retries_until_it_works retries_run_out time_limits options_of_place_are_harmless
                options_hold_for_each_call;
            nested: fibonacci deep_waiting errors_of_inner_tasks handles_inside_tasks context_is_restored
                inner_tasks_of_many wide_inner_graphs;
            large: long_chain wide_graph wide_and_deep large_values buffers buffers_in_structures
                buffers_are_read_in_place memory_is_released;
            runtimes: no_runtime tokio_runtime actix_runtime dropped_computation;
            concurrent: many_threads_one_client clones_and_drops;
        }
    };
}

macro_rules! cases {
    ($client:expr; $($module:ident: $($case:ident)*;)*) => {$(
        mod $module {
            use super::*;
            $(
                #[test]
                fn $case() {
                    crate::run(|| $client, crate::behaviour::$module::$case);
                }
            )*
        }
    )*};
}

mod sync {
    use swath::Client;
    suite!(Client::sync());
}

mod one_thread {
    use swath::Client;
    suite!(Client::threads(1));
}

mod four_threads {
    use swath::Client;
    suite!(Client::threads(4));
}

mod one_process {
    use crate::common::processes;
    suite!(processes(1, 1));
}

mod two_processes {
    use crate::common::processes;
    suite!(processes(2, 1));
}

mod one_process_of_three_threads {
    use crate::common::processes;
    suite!(processes(1, 3));
}
