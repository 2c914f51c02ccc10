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

common::suite::in_every_mode! { files;
    reading: files_in_order blocks several_files_for_a_task compressed_files encodings delimiters json_lines
        csv_records strings_are_spared empty_files;
    bad_input: files_that_went_away files_that_changed half_a_compressed_file lines_that_are_no_text
        bad_json bad_csv what_is_wrong_in_a_later_block bad_headers;
    writing: lines_come_back names_and_places json_lines failed_writes_leave_nothing files_are_replaced
        places_that_cannot_be_written described_once_written_twice
        killed_writers_leave_nothing;
}
