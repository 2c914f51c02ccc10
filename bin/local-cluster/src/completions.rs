//! Completions for shells.

use crate::options::Options;
use clap::CommandFactory;
use clap_complete::Shell;

pub(crate) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "local-cluster", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // Where a program's name has a dash, the generator writes it in one way and looks for it in another.
        Shell::Bash => script.replace("local__subcmd__cluster", "local__cluster"),
        _ => script,
    }
}
