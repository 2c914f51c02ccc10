//! What workers print: passed on, and the last of it kept.

use super::records::LAST_LINES;
use super::{Core, WorkerProcess};
use crate::error::OutputStream;
use crate::host::count_lines;
use crate::ids::WorkerId;
use crate::supervisor::effects::{Effects, WorkerPage};

impl Core {
    /// The keys of the tasks that a worker runs.
    fn running<E: Effects>(&self, process: &WorkerProcess, fx: &E) -> Vec<String> {
        let running = fx.page(process.id).map(WorkerPage::running).unwrap_or_default();
        running.into_iter().map(|id| self.key(process, id, fx)).collect()
    }

    /// Takes in output of a worker that it has not read itself.
    pub(crate) fn print_of_running<E: Effects>(&mut self, worker: WorkerId, stderr: bool, bytes: &[u8], fx: &mut E) {
        let process = self.fleet.workers.get(&worker);
        let tasks = process.map(|process| self.running(process, fx)).unwrap_or_default();
        self.print(worker, stderr, bytes, &tasks, fx);
    }

    /// Takes in the output of a worker that has ended, which it had read and not told of.
    pub(crate) fn print_last_output<E: Effects>(&mut self, worker: WorkerId, fx: &mut E) {
        let Some(process) = self.fleet.workers.get(&worker) else { return };
        let left = fx.page(worker).and_then(WorkerPage::left_output);
        if let Some(piece) = left.filter(|piece| piece.number > process.told) {
            let tasks = self.running(process, fx);
            self.print(worker, piece.stderr, &piece.bytes, &tasks, fx);
        }
    }

    /// Passes on what a worker has written, and keeps the last of it.
    pub(super) fn print<E: Effects>(
        &mut self,
        worker: WorkerId,
        stderr: bool,
        bytes: &[u8],
        tasks: &[String],
        fx: &mut E,
    ) {
        if self.settings.forward_output {
            fx.print(worker, stderr, bytes);
        }
        if let Some(process) = self.fleet.workers.get_mut(&worker) {
            if process.lines < LAST_LINES {
                process.lines += count_lines(bytes);
            }
            process.open_line = !bytes.ends_with(b"\n");
            let stream = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            self.history.recent_lines[process.slot].push(stream, tasks, bytes, fx.wall_clock());
            fx.printed(worker, &self.fleet.slots[process.slot].name, stream, tasks, bytes);
        }
    }
}
