//! The number of workers follows their load, while somebody wants it to. The load is looked at while there is any, and then
//! until nothing is left to change.

use super::Core;
use crate::host::report;
use crate::ids::SessionId;
use crate::message::Answer;
use crate::settings::{AdaptOptions, MOST_WORKERS};
use crate::supervisor::adaptive::{Adaptive, WorkerShape};
use crate::supervisor::effects::{Effects, Timer};
use std::time::Duration;

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(10);

/// Somebody wants the number of workers to follow the load.
pub(super) struct Adapting {
    /// Which of those who have wanted it.
    serial: u64,
    session: SessionId,
    adaptive: Adaptive,
    /// Whether the timer for the next look is set.
    timed: bool,
    /// The last look has found nothing to do and nothing to change, while so many bytes were held.
    content: Option<u64>,
}

impl Core {
    /// Has the number of workers follow the load from now on, in place of whoever wanted that before.
    pub(super) fn adapt(&mut self, session: SessionId, min: usize, max: usize, options: AdaptOptions) -> Answer {
        let refused = |what: &str, why| Answer::Refused { what: what.to_string(), why };
        if min == 0 || min > max || max > MOST_WORKERS {
            let why =
                format!("{min} to {max}; it must be from 1 to {MOST_WORKERS}, and the first not more than the second");
            return refused("the numbers of workers", why);
        }
        if options.interval < SHORTEST || options.target.is_zero() {
            let why = format!("`interval` must be {SHORTEST:?} at least, and `target` more than nothing");
            return refused("the options to adapt", why);
        }
        let now = self.fleet.most();
        if now != now.clamp(min, max)
            && let Err(why) = self.scale(now.clamp(min, max))
        {
            return refused("the numbers of workers", why);
        }
        self.adapted += 1;
        let (serial, adaptive) = (self.adapted, Adaptive::new(min, max, options));
        self.adapting = Some(Adapting { serial, session, adaptive, timed: false, content: None });
        Answer::Adapting(serial)
    }

    /// The number of workers stays as it is from now on, unless somebody else has it adapted.
    pub(super) fn stop_adapting(&mut self, serial: u64) {
        self.adapting.take_if(|adapting| adapting.serial == serial);
    }

    pub(super) fn adapts_no_more(&mut self, session: SessionId) {
        self.adapting.take_if(|adapting| adapting.session == session);
    }

    /// Whether the load is to be looked at, and the timer for that is not set. Where starting workers has been given up, there
    /// is nothing to change until somebody asks for them anew.
    pub(super) fn must_look_at_load(&self) -> bool {
        let Some(adapting) = self.adapting.as_ref().filter(|adapting| !adapting.timed) else { return false };
        let too_many =
            || self.fleet.most() > adapting.adaptive.min() && adapting.content != Some(self.scheduler.held());
        let may_change = self.agenda.stopping.is_none() && !self.fleet.given_up;
        may_change && (self.must_check() || too_many())
    }

    /// Sets the timer for the next look at the load, if there is to be one.
    pub(super) fn look_at_load_later<E: Effects>(&mut self, fx: &mut E) {
        if self.must_look_at_load()
            && let Some(adapting) = &mut self.adapting
        {
            adapting.timed = true;
            fx.call_later(adapting.adaptive.interval(), Timer::Adapt(adapting.serial));
        }
    }

    /// Looks at the load.
    pub(super) fn adapt_now(&mut self, serial: u64) {
        let load = self.scheduler.load();
        let now = self.fleet.most();
        let shape = WorkerShape { threads: self.settings.threads, memory_limit: self.settings.memory_limit };
        let Some(adapting) = self.adapting.as_mut().filter(|adapting| adapting.serial == serial) else { return };
        adapting.timed = false;
        let wanted = adapting.adaptive.decide(load, shape, now);
        let settled = load.tasks == 0 && !adapting.adaptive.wants_fewer();
        adapting.content = (settled && wanted == now).then_some(load.held);
        let wanted = self.share.as_ref().map_or(wanted, |share| wanted.min(share.room().max(now)));
        // Where workers die and are not replaced there may be none left, and nothing is begun again by itself.
        if wanted != now && now > 0 && self.agenda.stopping.is_none() {
            report!(Info, "{wanted} worker(s) for {now}: {} task(s) can run, or run", load.tasks);
            if let Err(why) = self.scale(wanted) {
                report!(Warn, "the number of workers stays: {why}");
            }
        }
    }
}
