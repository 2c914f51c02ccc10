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
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let mut heading = Roff::new();
        heading.control("SH", [format!("COMMAND {}", sub.get_name().to_uppercase()).as_str()]);
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        heading.text([bold(sub.get_name()), roman(format!(": {about}"))]);
        heading.to_writer(&mut page)?;
        // What holds for each command is said once, above.
        let own = sub.clone().mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        let mut options = Vec::new();
        Man::new(own).render_options_section(&mut options)?;
        // It is a part of this section.
        page.extend(String::from_utf8_lossy(&options).replacen(".SH OPTIONS\n", "", 1).into_bytes());
    }
    man.render_extra_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
