//! What every example takes beside its own arguments, to see what it does:
//!
//! ```text
//! --progress      bars on the terminal, for as long as it runs
//! --record FILE   a log of every run of a task: `local-cluster why FILE`, `events`, `logs`, `trace`, `graph`
//! --report FILE   a page that says where the time went: .html
//! --graph FILE    a picture of what it computes: .svg, .html or .dot
//! ```

#![allow(dead_code, reason = "each example uses a part of it")]

use std::ffi::OsString;
use std::path::PathBuf;
use swath::Client;
use swath::client::picture::Visualize;
use swath::client::{Builder, PerformanceReport};

/// What is to be seen of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    progress: bool,
    record: Option<PathBuf>,
    report: Option<PathBuf>,
    graph: Option<PathBuf>,
}

impl Look {
    /// Takes its own out of the arguments of the program; the others are given back.
    ///
    /// # Errors
    /// Where a file is not named.
    pub(crate) fn from_args() -> Result<(Self, Vec<OsString>), String> {
        let (mut look, mut others) = (Self::default(), Vec::new());
        let mut args = std::env::args_os().skip(1);
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let (name, value) = text.split_once('=').map_or((&*text, None), |(name, value)| (name, Some(value.into())));
            let file = match name {
                "--progress" if value.is_none() => {
                    look.progress = true;
                    continue;
                }
                "--record" => &mut look.record,
                "--report" => &mut look.report,
                "--graph" => &mut look.graph,
                // What follows is for the program, whatever it looks like.
                "--" => {
                    others.push(arg);
                    others.extend(args);
                    break;
                }
                _ => {
                    others.push(arg);
                    continue;
                }
            };
            let value = value.or_else(|| args.next()).ok_or_else(|| format!("{name} needs the name of a file"))?;
            *file = Some(value.into());
        }
        Ok((look, others))
    }

    /// The only arguments that an example takes which has none of its own.
    ///
    /// # Errors
    /// As [`from_args`](Self::from_args), and where there are others.
    pub(crate) fn alone() -> Result<Self, String> {
        let (look, others) = Self::from_args()?;
        match others.first() {
            None => Ok(look),
            Some(other) => {
                Err(format!("unexpected argument {other:?}; there are --progress, --record, --report and --graph"))
            }
        }
    }

    /// A client of which that is seen.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub(crate) fn client(&self, builder: Builder) -> swath::Result<Client> {
        #[cfg(feature = "progress")]
        let builder = builder.progress(self.progress);
        match &self.record {
            Some(path) => builder.record(path).build(),
            None => builder.build(),
        }
    }

    /// The same for one of several clients, each of which has files of its own: its number stands before the ending.
    pub(crate) fn numbered(&self, number: usize) -> Self {
        let numbered = |path: &PathBuf| match path.extension() {
            Some(ending) => path.with_extension(format!("{number}.{}", ending.display())),
            None => path.with_extension(number.to_string()),
        };
        let (record, report) = (self.record.as_ref().map(numbered), self.report.as_ref().map(numbered));
        Self { record, report, ..self.clone() }
    }

    /// What a client does until the answer is dropped, which is to be before the client is, is written into a report.
    pub(crate) fn report(&self, client: &Client) -> Option<PerformanceReport> {
        self.report.as_ref().map(|path| client.performance_report(path))
    }

    /// Draws what is to be computed.
    ///
    /// # Errors
    /// As [`Visualize::visualize`].
    pub(crate) fn draw(&self, what: &impl Visualize) -> swath::Result<()> {
        self.graph.as_ref().map_or(Ok(()), |path| what.visualize(path))
    }
}
