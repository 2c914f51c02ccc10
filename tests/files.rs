//! What reading and writing files must do, run in every mode.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod files {
    pub mod bad_input;
    pub mod kinds;
    pub mod listing;
    pub mod quoted;
    pub mod reading;
    pub mod sizes;
    pub mod splitting;
    pub mod writing;
}

common::suite::in_every_mode! { files;
    reading: files_in_order blocks several_files_for_a_task compressed_files encodings delimiters json_lines
        csv_records strings_are_spared empty_files;
    bad_input: files_that_went_away files_that_changed half_a_compressed_file lines_that_are_no_text
        bad_json bad_csv what_is_wrong_in_a_later_block bad_headers;
    writing: lines_come_back names_and_places json_lines failed_writes_leave_nothing files_are_replaced
        places_that_cannot_be_written described_once_written_twice
        killed_writers_leave_nothing;
    quoted: two_thousand_records_with_quoted_line_ends a_quote_that_is_never_closed
        quoted_line_ends_in_names_and_other_encodings json_values_over_two_lines;
    kinds: devices_are_written_through a_fifo_gets_the_text_once_somebody_reads_it nobody_reads_the_fifo
        a_socket_gets_the_text links_are_followed_to_their_end other_names_of_a_file_lead_to_the_new_text
        modes_and_owners_stay kept_results_go_where_links_lead fewer_parts_than_before numbers_that_json_has_not;
    sizes: files_of_the_kernel a_log_that_is_being_written a_file_that_was_empty gzip_that_is_filled_up_with_zeroes;
}
