//! What the simulation has found, each by itself.

use super::session::Heard;
use super::{World, machine};
use crate::error::DeathCause;
use crate::ids::{JobId, SessionId};
use crate::ipc::frame::MOST_FDS;
use crate::message::Request;
use crate::settings::{RestartPolicy, Settings};
use fastrand::Rng;

fn world(workers: usize, restart: RestartPolicy) -> World {
    let settings = Settings { workers, tags: vec![Vec::new(); workers], restart, ..machine().0.clone() };
    let mut world = World::with(settings, Rng::with_seed(1));
    world.run_out();
    assert!(world.fx.workers.values().all(|worker| worker.welcomed));
    world
}

fn hear_all(world: &mut World) {
    let sessions: Vec<SessionId> = world.sessions.keys().copied().collect();
    for id in sessions {
        while world.hear(id) {}
    }
}

#[test]
fn a_task_with_too_many_segments_is_refused_at_once_and_leaves_none_lent() {
    let mut world = world(1, RestartPolicy::Always);
    let job = JobId { session: SessionId::CLIENT, number: 1 };
    let spec = world.describe_full(job, MOST_FDS as u32 + 1, 1);
    world.ask(SessionId::CLIENT, Request::Submit { number: 1, spec });
    hear_all(&mut world);
    assert!(world.sessions[&SessionId::CLIENT].wanted.values().all(|heard| *heard == Heard::Failed));
    assert!(world.core.loans().is_empty());
}

#[test]
fn the_last_worker_that_goes_is_the_end_also_where_it_was_to_go() {
    let mut world = world(2, RestartPolicy::Never);
    let [first, second] = [0, 1].map(|at| *world.fx.workers.keys().nth(at).unwrap());
    world.core.scale(1);
    world.follow_as_actor();
    world.fx.workers.get_mut(&first).unwrap().die(DeathCause::Exited(1));
    world.reap(first);
    hear_all(&mut world);
    assert!(world.sessions.values().all(|session| !session.closed), "one is left");
    world.fx.workers.get_mut(&second).unwrap().die(DeathCause::Exited(0));
    world.reap(second);
    hear_all(&mut world);
    assert!(world.sessions.values().all(|session| session.closed));
}

#[test]
fn a_program_that_attaches_when_all_workers_have_died_for_good_is_told() {
    let mut world = world(1, RestartPolicy::Never);
    let worker = *world.fx.workers.keys().next().unwrap();
    world.fx.workers.get_mut(&worker).unwrap().die(DeathCause::Signal(9));
    world.reap(worker);
    let before = world.next_session;
    world.attach();
    hear_all(&mut world);
    assert!(world.sessions[&SessionId(before)].closed);
}
