//! One suite of what a client must do, run in every mode: in the calling thread, on threads, and in worker processes.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod behaviour {
    pub mod arguments;
    pub mod beside;
    pub mod calls;
    pub mod chains;
    pub mod commanded;
    pub mod concurrent;
    pub mod coordination;
    pub mod decoded;
    pub mod depth;
    mod diagnosis;
    pub mod errors;
    pub mod events;
    pub mod explain;
    pub mod failing;
    pub mod fairness;
    pub mod faults;
    pub mod futures;
    pub mod hooks;
    pub mod large;
    pub mod maps;
    pub mod nested;
    pub mod operators;
    pub mod options;
    pub mod order;
    pub mod panics;
    pub mod parts;
    pub mod pressure;
    pub mod processes;
    pub mod progress;
    pub mod published;
    pub mod random;
    mod recording;
    pub mod reentrant;
    pub mod resources;
    pub mod runtimes;
    pub mod same;
    pub mod sharing;
    pub mod state;
    mod unwanted;
}
mod common;

use common::{Clean, LONG, my_role, role, say};
use std::path::{Path, PathBuf};
use std::process::Child;
use swath::{Client, local};

/// A local cluster is a process of this program's own; [`Cluster::start`] starts it.
#[test]
fn cluster_role() {
    let builder = Client::builder().workers(2).threads(1);
    let builder = match my_role().as_deref() {
        Some("cluster") => builder,
        Some("cluster with resources") => builder.threads(4).worker_resources(0, behaviour::resources::OF_ONE),
        _ => return,
    };
    local::serve(builder, |_| say("ready")).unwrap();
}

/// Runs one case with a client of a local cluster of its own.
fn run_in_cluster(case: fn(&Client)) {
    let _clean = Clean::start();
    with_cluster(|socket| {
        let client = Client::connect(socket).unwrap();
        client.wait_for_workers(2, LONG).unwrap();
        case(&client);
    });
}

/// Runs a part of a test beside a local cluster of its own, given its socket.
fn with_cluster(part: impl FnOnce(&Path)) {
    part(&Cluster::start("cluster").socket());
}

/// A local cluster, which is stopped when this is dropped.
struct Cluster {
    daemon: Child,
    runtime: tempfile::TempDir,
}

impl Cluster {
    fn start(kind: &str) -> Self {
        let runtime = common::directory();
        let (daemon, _) = common::cluster::start(runtime.path(), &role("cluster_role", kind), '@');
        Self { daemon, runtime }
    }

    fn socket(&self) -> PathBuf {
        self.runtime.path().join("swath/default.sock")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGTERM would reach a thread of the test program that does not know of the cluster.
        let stopped = local::stop(self.socket());
        if stopped.is_err() {
            let _ = self.daemon.kill();
        }
        let status = self.daemon.wait().unwrap();
        if !std::thread::panicking() {
            stopped.unwrap();
            assert!(status.success(), "{status}");
            let left = common::cluster::left_in(self.runtime.path());
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

/// A test for each case of the suite, in the module it is invoked in.
macro_rules! suite {
    ($run:expr) => {
        crate::common::suite::cases! { $run, behaviour;
            arguments: up_to_eight values_of_every_kind delayed_values_and_futures lists_of_handles lists_and_values
                nested_lists arrays tuples options maps text collected empty_inputs;
            fairness: a_request_does_not_wait_for_a_batch a_graph_of_higher_priority_goes_first
                what_a_task_submits_has_the_priority_of_the_task
                a_large_graph_is_used_as_soon_as_it_is_submitted
                a_batch_goes_on_beside_requests_that_never_cease a_request_does_not_wait_for_chains
                it_is_told_how_many_graphs_are_before_one;
            operators: arithmetic plain_arithmetic bits_and_comparisons scalars_on_both_sides sums_and_products indexing unpacking
                methods;
            calls: what_is_given_up_lets_go_of_earlier_results loops_and_conditions course_patterns diamonds_and_trees compute_many_at_once persisted_values
                submitted_and_gathered mapped scattered_and_broadcast as_completed_gives_all wait_for_all_and_any
                time_limits_of_waits a_time_limit_for_a_whole_graph the_longest_time_limits cancelling what_is_detached_runs_to_its_end retrying explaining_and_progress futures_in_later_graphs
                foreign_and_closed_clients what_another_client_does_with_a_future_is_done_at_its_own describing task_context status_and_debug cancelling_before_others_use_it
                a_mix_of_ready_and_failed;
            sharing: shared_parts_run_once pure_calls_run_once pure_results_that_are_held_are_used
                persisted_tasks_do_not_run_again moved_and_cloned_values keys_and_names
                what_returned_an_error_answers_no_equal_call what_took_too_long_answers_no_equal_call
                what_was_cancelled_answers_no_equal_call calls_with_other_options_are_not_equal;
            chains: long_chains_of_futures long_chains_of_persisted_results arguments_are_let_go
                failures_are_named_when_they_are_gone finished_results_are_kept_in_files;
            errors: typed_errors_are_kept errors_that_people_have sources_are_told contexts_of_anyhow_are_sources
                long_errors_keep_their_sources kept_errors_of_any_way
                typed_errors_reach_dependents panics_tell_where other_panics
                others_go_on the_first_failure_counts try_map_and_chains results_as_plain_values
                failures_of_operators error_of_a_persisted_value unencodable_values undecodable_values
                values_that_panic_when_they_are_encoded values_that_panic_when_they_are_decoded;
            options: names retries_until_it_works retries_run_out time_limits a_run_over_its_limit_never_succeeds
                a_limit_is_told_when_it_is_over what_took_too_long_is_tried_again functions_that_hang_are_in_nobodys_way
                options_of_place_are_harmless options_hold_for_each_call;
            order: children_run_behind_their_parents what_is_bound_to_itself_runs_twice values_that_are_there_wait_too
                all_are_waited_for a_checkpoint_is_passed_when_all_have_run who_waits_fails_with_what_is_waited_for
                copies_are_tasks_of_their_own;
            beside: once_in_each_process on_those_that_are_named beside_what_runs what_goes_wrong_there_is_told
                where_results_are a_closed_client_does_not_say_where_results_are;
            resources: what_no_worker_has_is_refused_when_it_is_submitted options_for_a_whole_graph;
            parts: of_tuples_and_lists the_whole_and_its_parts persisted_and_submitted
                equal_pure_calls_have_the_same_parts a_list_of_another_length_is_an_error what_fails_fails_all_parts
                retries_and_time_limits_hold a_part_that_failed_runs_again a_part_that_is_dropped_leaves_others
                ten_thousand_parts parts_may_be_kept_in_files they_are_shown a_time_limit_is_that_of_the_call
                they_are_moved_and_dropped_one_by_one;
            failing: the_first_failure_is_told_at_once_and_cancels_the_rest what_runs_is_told_that_nobody_waits_for_it
                the_first_failure_names_the_first_that_needs_it what_does_not_fail_is_computed_as_ever
                what_others_hold_is_not_cancelled;
            futures: futures_join_those_that_are_waited_for batches_are_all_that_are_done
                the_next_one_is_waited_for_no_longer_than_told each_comes_with_its_result gathered_without_what_fails
                the_failure_is_waited_for a_call_follows_a_future callbacks_are_called_once_each
                a_callback_that_panics_harms_nobody a_callback_may_wait_and_submit callbacks_of_a_tasks_futures;
            faults: failed a_missing_file panics timed_out cancelled died shut_down;
            nested: tasks_of_tasks_have_keys_of_their_own a_task_that_waits_is_told_that_it_is_cancelled fibonacci deep_waiting waiting_in_async_code errors_of_inner_tasks handles_inside_tasks context_is_restored
                inner_tasks_of_many wide_inner_graphs shutting_down_inside_a_task;
            large: long_chain wide_graph wide_and_deep large_values buffers buffers_in_structures
                buffers_of_another_client buffers_are_read_in_place memory_is_released;
            maps: of_many_items as_they_are_done retried_as_they_are_done cancelled_and_retried_at_once
                values_that_cannot_be_copied values_of_all_lengths used_by_others_at_once dropped_and_cancelled
                ahead_in_order ahead_as_they_are_done ahead_of_endless_items
                some_that_cannot_be_sent;
            reentrant: drops_of_arguments drops_of_failures drops_of_results encoding_values wakers a_waker_that_is_replaced;
            panics: payloads_that_panic_when_they_are_dropped values_that_panic_when_they_are_dropped wakers_that_panic;
            runtimes: no_runtime tokio_runtime actix_runtime dropped_computation;
            state: built_once_in_each_process a_failed_build_is_the_tasks_error_and_tried_again
                built_with_tasks one_that_needs_itself_is_an_error two_that_need_each_other_are_an_error;
            progress: a_chain_counts_each_of_its_calls what_fails_is_counted_with_what_needs_it
                what_runs_again_is_not_counted_anew what_is_cancelled_or_released_is_counted_so
                nobody_is_counted_twice_or_lost the_numbers_add_up_at_every_moment
                a_closed_client_has_nothing_unfinished watching_ends_with_the_last_state progress_of_some_results
                what_a_task_says_of_itself_moves_its_group;
            explain: what_is_done_says_where_its_result_is what_failed_names_the_first_that_did
                what_waits_is_followed_to_what_holds_it_up what_runs_says_where_for_how_long_and_how_far
                what_was_cancelled_says_so tasks_are_found_by_their_keys parts_of_a_result_are_told
                what_nobody_needs_says_so of_a_long_chain_the_first_steps_and_the_last_are_told;
            events: of_graphs_and_tasks of_what_runs_take of_waits_in_tasks of_failures of_cancelled_tasks of_notes_and_labels watched saved_and_opened;
            decoded: a_value_of_many_tasks_is_decoded_once_a_worker equal_arguments_of_a_graph_are_one
                a_part_of_a_held_value_is_all_that_is_copied;
            depth: a_thousand_levels_work what_would_overflow_a_stack_is_an_error;
            commanded: tasks_that_end_each_others_workers_are_told
                a_task_that_would_end_the_worker_of_who_waits_for_it_is_told
                a_task_that_would_restart_all_workers_is_told
                a_task_that_ends_a_worker_makes_room_for_what_is_awaited_there
                who_retires_workers_waits_no_longer_than_told
                a_retired_worker_is_gone_and_nothing_runs_twice a_worker_is_replaced_in_order
                what_does_not_end_in_time_is_restarted_and_blamed_on_nobody the_number_of_workers_follows_the_load;
            coordination: a_lock_is_had_by_one_at_a_time a_semaphore_is_had_by_so_many an_event_wakes_all
                a_queue_keeps_order_and_pushes_back a_variable_has_one_value large_values_and_values_with_handles
                tasks_find_them_by_name bad_names_and_numbers_are_refused of_another_type_or_number_is_an_error
                waiting_for_oneself_is_an_error waiting_in_a_circle_is_an_error a_thousand_async_waiters_cost_no_thread
                what_is_on_its_way_to_a_dropped_future_goes_back
                several_items_on_their_way_to_dropped_futures_keep_their_order a_handle_of_another_client_is_an_error who_fails_lets_go
                handles_come_back each_call_of_a_chain_is_a_run what_a_run_has_ends_with_it
                who_is_cancelled_waits_no_more who_waits_gives_its_place_away a_closed_client_is_told a_time_limit_holds
                two_hundred_tasks_wait_for_what_one_after_them_does two_thousand_tasks_wait_for_an_event;
            published: a_result_is_there_by_its_name_until_it_is_unpublished kept_results_are_published_as_they_are
                lists_are_published_as_a_whole publishing_waits_for_the_result async_code_publishes_too tasks_find_what_is_published_and_publish
                large_buffers_and_handles_of_each_other bad_names_are_refused what_is_not_there_or_otherwise_is_told
                what_has_failed_is_not_published who_cancels_or_shuts_down_is_told;
            concurrent: many_threads_one_client clones_and_drops;
        }
    };
}

mod sync {
    suite!(|case| crate::common::suite::run(swath::Client::sync, case));
}

mod one_thread {
    suite!(|case| crate::common::suite::run(|| swath::Client::threads(1), case));
}

mod four_threads {
    suite!(|case| crate::common::suite::run(|| swath::Client::threads(4), case));
}

/// What users' values go through where each is encoded on its way.
mod threads_that_encode {
    crate::common::suite::cases! { |case| {
        let builder = swath::Client::builder().mode(swath::status::Mode::Threads).threads(2).encode_values(true);
        crate::common::suite::run(|| builder.build().unwrap(), case)
    }, behaviour;
        arguments: up_to_eight values_of_every_kind delayed_values_and_futures lists_of_handles lists_and_values
            nested_lists arrays tuples options maps text collected empty_inputs;
        operators: arithmetic plain_arithmetic bits_and_comparisons scalars_on_both_sides sums_and_products indexing unpacking
            methods;
        calls: what_is_given_up_lets_go_of_earlier_results loops_and_conditions course_patterns diamonds_and_trees compute_many_at_once persisted_values
            submitted_and_gathered mapped scattered_and_broadcast;
        sharing: shared_parts_run_once pure_calls_run_once moved_and_cloned_values;
        chains: long_chains_of_futures long_chains_of_persisted_results;
        errors: typed_errors_are_kept errors_that_people_have sources_are_told kept_errors_of_any_way
            typed_errors_reach_dependents panics_tell_where results_as_plain_values;
        parts: of_tuples_and_lists the_whole_and_its_parts persisted_and_submitted a_list_of_another_length_is_an_error
            a_part_that_failed_runs_again;
        nested: fibonacci handles_inside_tasks;
        large: long_chain wide_graph large_values buffers buffers_in_structures;
        maps: of_many_items values_that_cannot_be_copied values_of_all_lengths;
        state: built_once_in_each_process built_with_tasks;
        coordination: a_lock_is_had_by_one_at_a_time a_queue_keeps_order_and_pushes_back a_variable_has_one_value
            large_values_and_values_with_handles tasks_find_them_by_name handles_come_back;
        published: a_result_is_there_by_its_name_until_it_is_unpublished kept_results_are_published_as_they_are
            large_buffers_and_handles_of_each_other;
    }
}

mod one_process {
    suite!(|case| crate::common::suite::run(|| crate::common::processes(1, 1), case));
}

mod two_processes {
    suite!(|case| crate::common::suite::run(|| crate::common::processes(2, 1), case));
}

mod one_process_of_three_threads {
    suite!(|case| crate::common::suite::run(|| crate::common::processes(1, 3), case));
}

mod local_cluster {
    suite!(crate::run_in_cluster);
}

mod a_million_futures {
    use crate::behaviour::chains::chains_of_a_million_futures;
    use crate::common::suite::run;

    #[test]
    #[ignore = "full runtime: a million futures in a chain"]
    fn sync() {
        run(swath::Client::sync, chains_of_a_million_futures);
    }

    #[test]
    #[ignore = "full runtime: a million futures in a chain"]
    fn threads() {
        run(|| swath::Client::threads(2), chains_of_a_million_futures);
    }

    #[test]
    #[ignore = "full runtime: a million futures in a chain"]
    fn processes() {
        run(|| crate::common::processes(2, 1), chains_of_a_million_futures);
    }
}
