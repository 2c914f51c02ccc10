//! What bags must do, run in every mode: in the calling thread, on threads, and in worker processes.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod bag {
    pub mod groups;
    pub mod making;
    pub mod random;
    pub mod reading;
    pub mod reductions;
    pub mod tasks;
    pub mod together;
    pub mod transforms;
}
mod common;

use common::Clean;
use swath::bag::BagError;
use swath::{Bag, Client};

common::suite::in_every_mode! { bag;
    making: sequences ranges lists_and_lazy_lists generated empty;
    tasks: steps_become_one_task shared_steps_run_once errors_tell_the_place
        every_function_of_elements_tells_the_place a_failed_pass_reads_no_further options_are_kept long_chains;
    transforms: element_by_element arguments_for_all whole_partitions tuples parts_by_key samples
        running_results several_bags partitions_by_number partitions_by_size;
    reductions: numbers extremes predicates folds folds_of_partitions_without_elements tops tables first_elements of_nothing;
    groups: by_key kept_and_grouped_again errors a_worker_dies;
    reading: one_partition_at_a_time shared_parts_once failing_partitions in_async_code;
    together: functions_of_several_bags bags_of_different_lengths elements_by_chance chances_are_even more_than_there_are
        lines_with_their_paths;
    random: transforms reductions tables;
}

/// What a child process does: it groups where nothing can be written.
#[test]
fn grouping_child() {
    if common::my_role().is_none() {
        return;
    }
    for client in [Client::sync(), Client::threads(2), common::processes(1, 1)] {
        let error = Bag::range(0..10, 2).groupby(|x| x % 3, None).compute(&client).unwrap_err();
        match error.task().unwrap().downcast::<BagError>() {
            Some(BagError::Spool { directory, .. }) => common::say(format!("{} {directory}", client.mode())),
            other => panic!("{other:?}: {error}"),
        }
    }
}

#[test]
fn groups_that_cannot_be_written_are_an_error_that_names_the_directory() {
    let _clean = Clean::start();
    let mut child = common::role("grouping_child", "grouping");
    child.env("TMPDIR", "/proc/no-such-directory");
    let expected = ["sync", "threads", "processes"].map(|mode| format!("{mode} /proc/no-such-directory"));
    assert_eq!(common::play(child), expected);
}
