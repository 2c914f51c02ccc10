//! What the simulation has found, each by itself.

use super::session::Heard;
use super::{World, machine};
use crate::error::DeathCause;
use crate::ids::{JobId, SessionId, WorkerId};
use crate::message::{Question, Request};
use crate::settings::{RestartPolicy, Settings};
use fastrand::Rng;
use std::time::Duration;

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
fn a_task_with_very_many_segments_runs_and_leaves_none_lent() {
    let mut world = world(1, RestartPolicy::Always);
    let job = JobId { session: SessionId::CLIENT, number: 1 };
    let spec = world.describe_full(job, 20_000, 1);
    world.ask(SessionId::CLIENT, Request::Submit { number: 1, spec });
    world.run_out();
    hear_all(&mut world);
    assert!(world.sessions[&SessionId::CLIENT].wanted.values().all(|heard| *heard == Heard::Value));
    world.check_end();
}

#[test]
fn the_last_worker_that_goes_is_the_end_also_where_it_was_to_go() {
    let mut world = world(2, RestartPolicy::Never);
    let [first, second] = [0, 1].map(|at| *world.fx.workers.keys().nth(at).unwrap());
    world.core.scale(1).unwrap();
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

/// Submits so many plain tasks that nothing comes before, and has the only worker get them.
fn with_tasks(world: &mut World, tasks: u32) {
    let job = JobId { session: SessionId::CLIENT, number: 1 };
    let spec = world.describe_full(job, 0, tasks);
    world.ask(SessionId::CLIENT, Request::Submit { number: 1, spec });
    world.follow_as_actor();
}

/// The only worker, once it is there, with what it has been sent.
fn the_worker(world: &mut World) -> WorkerId {
    let id = *world.fx.workers.keys().next().unwrap();
    let worker = world.fx.workers.get_mut(&id).unwrap();
    worker.begin();
    world.read_worker(id);
    let worker = world.fx.workers.get_mut(&id).unwrap();
    while !worker.inbox.is_empty() {
        worker.obey();
    }
    id
}

fn run_one(world: &mut World, id: WorkerId) {
    let worker = world.fx.workers.get_mut(&id).unwrap();
    assert!(worker.start_task());
    assert!(worker.end_task(&mut world.rng, &mut world.fails));
}

fn lose(world: &mut World, id: WorkerId) {
    let worker = world.fx.workers.get_mut(&id).unwrap();
    // What it had said has not arrived.
    worker.cut_off();
    worker.die(DeathCause::Signal(6));
    world.reap(id);
}

#[test]
fn a_task_that_ends_its_worker_before_word_of_its_end_fails_and_the_client_lives() {
    let mut world = world(1, RestartPolicy::Always);
    with_tasks(&mut world, 1);
    for death in 1..=world.allowed_deaths {
        let id = the_worker(&mut world);
        run_one(&mut world, id);
        // Longer than a start may take, again and again.
        world.pass(Duration::from_millis(900));
        lose(&mut world, id);
        assert_eq!(world.fx.pauses(), 0, "it came to work, and is replaced at once");
        assert_eq!(world.deaths.values().copied().collect::<Vec<_>>(), [death]);
    }
    hear_all(&mut world);
    let session = &world.sessions[&SessionId::CLIENT];
    assert!(!session.closed && session.wanted.values().all(|heard| *heard == Heard::Failed), "{:?}", session.wanted);
}

#[test]
fn what_ended_before_a_crash_runs_again_to_be_told_from_others_and_is_not_blamed() {
    let mut world = world(1, RestartPolicy::Always);
    with_tasks(&mut world, 2);
    let id = the_worker(&mut world);
    run_one(&mut world, id);
    assert!(world.fx.workers.get_mut(&id).unwrap().start_task());
    let running = world.fx.workers[&id].page.running.clone();
    lose(&mut world, id);
    assert_eq!(world.deaths.keys().copied().collect::<Vec<_>>(), running);
    let id = the_worker(&mut world);
    for _ in 0..2 {
        let worker = world.fx.workers.get_mut(&id).unwrap();
        while !worker.inbox.is_empty() {
            worker.obey();
        }
        assert_eq!(worker.queue.iter().map(|task| task.suspect).collect::<Vec<_>>(), [true], "one by one");
        run_one(&mut world, id);
        while world.read_worker(id) {}
    }
    hear_all(&mut world);
    let session = &world.sessions[&SessionId::CLIENT];
    assert!(session.wanted.values().all(|heard| *heard != Heard::Failed), "{:?}", session.wanted);
}

#[test]
fn a_task_that_closed_descriptors_and_ended_is_blamed_with_what_runs() {
    let mut world = world(1, RestartPolicy::Always);
    with_tasks(&mut world, 2);
    let id = the_worker(&mut world);
    run_one(&mut world, id);
    let worker = world.fx.workers.get_mut(&id).unwrap();
    assert!(worker.start_task());
    worker.page.robbed = true;
    lose(&mut world, id);
    assert_eq!(world.deaths.values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_task_that_is_sent_again_is_not_blamed_for_an_attempt_that_has_been_told() {
    let mut world = world(1, RestartPolicy::Always);
    with_tasks(&mut world, 1);
    let id = the_worker(&mut world);
    run_one(&mut world, id);
    while world.read_worker(id) {}
    // It is done: an idle worker that dies now is nobody's fault.
    lose(&mut world, id);
    assert!(world.deaths.is_empty());
    hear_all(&mut world);
}

#[test]
fn failed_starts_are_followed_by_pauses_and_crashing_tasks_by_none() {
    let mut world = world(1, RestartPolicy::Always);
    with_tasks(&mut world, 30);
    for _ in 0..30 {
        let id = the_worker(&mut world);
        world.fx.workers.get_mut(&id).unwrap().start_task();
        lose(&mut world, id);
        assert_eq!((world.fx.pauses(), world.fx.workers.len()), (0, 1), "at once, though no time has passed");
    }
    assert_eq!(world.now(), world.fx.clock.get());
    // A worker that ends before it has begun anything may be the first of many: the second of them waits.
    for pauses in [0, 1] {
        let id = *world.fx.workers.keys().next().unwrap();
        world.fx.workers.get_mut(&id).unwrap().die(DeathCause::Exited(1));
        world.reap(id);
        assert_eq!(world.fx.pauses(), pauses);
    }
}

/// Time passes, and the core looks at its workers as often as it is to.
fn looks(world: &mut World, times: u32) {
    for _ in 0..times {
        world.pass(Duration::from_millis(100));
        while world.ring() {}
    }
}

fn is_killed(world: &World, id: WorkerId) -> bool {
    world.fx.workers[&id].ended.is_some()
}

#[test]
fn workers_stopped_with_their_supervisor_are_given_as_long_again_and_one_stopped_alone_is_killed() {
    let settings = Settings { worker_timeout: Duration::from_secs(2), ..machine().0.clone() };
    let mut world = World::with(settings, Rng::with_seed(1));
    with_tasks(&mut world, 2);
    let id = the_worker(&mut world);
    assert!(world.fx.workers.get_mut(&id).unwrap().start_task());
    for pause in [5, 100_000] {
        looks(&mut world, 18);
        world.fx.workers.get_mut(&id).unwrap().set_stopped(true);
        world.pass(Duration::from_secs(pause));
        // The supervisor looks first.
        looks(&mut world, 18);
        assert!(!is_killed(&world, id), "it was stopped for {pause} s with its supervisor");
        world.fx.workers.get_mut(&id).unwrap().set_stopped(false);
    }
    world.fx.workers.get_mut(&id).unwrap().set_stopped(true);
    looks(&mut world, 30);
    assert!(is_killed(&world, id), "it was stopped alone");
}

#[test]
fn one_start_that_says_nothing_is_not_the_end_whatever_came_before_it_and_the_next_one_is() {
    for dies_before in [false, true] {
        let settings = Settings { start_timeout: Duration::from_secs(3), ..machine().0.clone() };
        let mut world = World::with(Settings { restart: RestartPolicy::Always, ..settings }, Rng::with_seed(1));
        let end = |world: &mut World, how: Option<DeathCause>| {
            let id = *world.fx.workers.keys().next().unwrap();
            match how {
                Some(cause) => world.fx.workers.get_mut(&id).unwrap().die(cause),
                None => looks(world, 32),
            }
            assert!(is_killed(world, id));
            world.reap(id);
            looks(world, 1);
        };
        if dies_before {
            end(&mut world, Some(DeathCause::Signal(9)));
        }
        end(&mut world, None);
        assert!(!world.fx.workers.is_empty(), "it may have been stopped");
        end(&mut world, None);
        assert!(world.fx.workers.is_empty(), "the second one");
    }
}

#[test]
fn a_worker_that_is_stopped_with_its_supervisor_while_it_starts_is_given_as_long_again() {
    let settings = Settings { start_timeout: Duration::from_secs(3), ..machine().0.clone() };
    let mut world = World::with(settings, Rng::with_seed(1));
    let id = *world.fx.workers.keys().next().unwrap();
    looks(&mut world, 28);
    world.pass(Duration::from_secs(60));
    looks(&mut world, 28);
    assert!(!is_killed(&world, id));
    looks(&mut world, 4);
    assert!(is_killed(&world, id));
}

#[test]
fn who_waits_for_the_end_of_a_worker_that_starts_is_told_of_it_though_more_are_wanted_again() {
    let settings = Settings { workers: 2, tags: vec![Vec::new(); 2], ..machine().0.clone() };
    let mut world = World::with(settings, Rng::with_seed(1));
    let first = *world.fx.workers.keys().next().unwrap();
    let question = Question::Retire { names: vec!["worker-0".to_string()], millis: None, by: None };
    world.sessions.get_mut(&SessionId::CLIENT).unwrap().tickets.insert(7);
    world.ask(SessionId::CLIENT, Request::Ask { ticket: 7, question });
    while world.read_session(SessionId::CLIENT) {}
    world.core.scale(2).unwrap();
    world.follow_as_actor();
    world.run_out();
    assert!(world.sessions[&SessionId::CLIENT].tickets.is_empty(), "it is told");
    assert!(!world.fx.workers.contains_key(&first) && world.fx.workers.len() == 2, "it is gone, and replaced");
}
