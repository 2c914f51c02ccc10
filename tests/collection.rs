//! A collection that is built outside of the crate, of numbers in chunks of a fixed size, in every mode: in the calling
//! thread, on threads, and in worker processes.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod collection {
    pub mod basics;
    pub mod errors;
    pub mod numbers;
    pub mod plans;
    pub mod shuffles;
}
mod common;

common::suite::in_every_mode! { collection;
    basics: two_inputs sums kept read_one_by_one drawn_and_named held_as_a_rule many_inputs in_async_code beside_others
        made_again_when_a_worker_dies;
    errors: the_place_is_named of_its_own_type wrong_numbers_of_chunks;
    plans: two_results_are_one_task kept mixed_with_others that_go_wrong;
    shuffles: by_remainder with_errors;
}
