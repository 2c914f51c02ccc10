//! The manual page: of the command, with a section for each of its commands.

use crate::options::Options;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

pub(crate) fn page() -> io::Result<String> {
    let mut command = Options::command();
    command.build();
    let mut page = Vec::new();
    // The protocol, which the version names too, is no matter of a page, and too long for its foot.
    let man = Man::new(command.clone()).source(concat!("swath ", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let mut heading = Roff::new();
        heading.control("SH", [format!("COMMAND {}", sub.get_name().to_uppercase()).as_str()]);
        let usage = sub.clone().render_usage().to_string();
        heading.text([bold(usage.trim_start_matches("Usage: "))]);
        heading.control("PP", []);
        heading.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        heading.to_writer(&mut page)?;
        // What holds for each command is said once, above.
        let common = |arg: &clap::Arg| arg.is_global_set() || arg.get_id() == "help";
        let own = sub.clone().mut_args(|arg| if common(&arg) { arg.hide(true) } else { arg });
        let mut options = Vec::new();
        Man::new(own).render_options_section(&mut options)?;
        // They are parts of this section.
        let options = String::from_utf8_lossy(&options).replacen(".SH OPTIONS\n", "", 1).replace(".SH ", ".SS ");
        page.extend(options.into_bytes());
    }
    let mut notes = Vec::new();
    man.render_extra_section(&mut notes)?;
    page.extend(String::from_utf8_lossy(&notes).replacen(".SH EXTRA\n", ".SH NOTES\n", 1).into_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}
