//! The clock of the core: time in which the supervisor itself ran.
//!
//! A program may be stopped with its workers, and go on later: by a container's pause, a debugger, a suspended machine. What
//! could not happen meanwhile is nobody's fault, so no limit counts that time: not the silence of workers, nor their starts,
//! nor the time limits of tasks. The core looks at its workers every [`CHECK`] while they owe it something; a look that
//! comes much later than it was due is how it knows.

use super::{CHECK, Core};
use crate::supervisor::effects::Effects;
use std::time::{Duration, Instant};

/// A check that comes so much late has been held up by something that may have held up the workers, too; or as much late
/// as a quarter of what workers may be silent for, where that is less.
const LATE: Duration = Duration::from_secs(1);

impl Core {
    /// What the core takes for the time: it stands still while the supervisor does.
    pub(super) fn time(&self, fx: &impl Effects) -> Instant {
        let now = fx.now();
        now.checked_sub(self.agenda.lost).unwrap_or(now)
    }

    /// The same as the scheduler counts it.
    pub(super) fn now(&self, fx: &impl Effects) -> Duration {
        self.time(fx).saturating_duration_since(self.clock)
    }

    /// To be called before anything is judged: where the next check is long overdue, that time does not count, and what
    /// workers owe they owe from now on.
    pub(super) fn notice_gap(&mut self, fx: &impl Effects) {
        let Some(check) = &mut self.agenda.check else { return };
        let now = fx.now();
        let late = now.saturating_duration_since(check.due);
        if late <= LATE.min(self.settings.worker_timeout / 4).max(CHECK) {
            return;
        }
        check.due = now;
        self.agenda.lost += late;
        let time = self.time(fx);
        self.fleet.workers.values_mut().for_each(|process| process.count_anew(time));
    }
}
