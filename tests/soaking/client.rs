//! A client with workers of its own.

use super::faults::{Deck, Rng, pause, slow_down};
use super::work::{Work, fill, keep, mix};
use crate::common::{pids, send_signal, until};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use swath::{Client, Future, delayed};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Crash,
    Stop,
    Slow,
    Fill,
    Restart,
    Scale,
    Cancel,
    OtherClient,
}

use Fault::*;
const FAULTS: &[Fault] = &[Kill, Crash, Stop, Slow, Fill, Restart, Scale, Cancel, OtherClient];

fn harm(client: &Client, fault: Fault, rng: &mut Rng) {
    let victim = rng.one_of(&pids(client));
    match (fault, victim) {
        (Kill, Some(pid)) => send_signal(pid, Signal::SIGKILL),
        (Crash, Some(pid)) => send_signal(pid, Signal::SIGSEGV),
        (Stop, Some(pid)) => send_signal(pid, Signal::SIGSTOP),
        (Slow, Some(pid)) => slow_down(pid),
        (Kill | Crash | Stop | Slow, None) => {}
        (Fill, _) => fill(client).unwrap(),
        (Restart, _) => client.restart().unwrap(),
        (Scale, _) => client.scale(1 + rng.below(3)).unwrap(),
        (Cancel, _) => {
            let futures: Vec<Future<u64>> =
                (0..20_u64).map(|x| client.submit(&delayed(mix).call(x, x)).unwrap()).collect();
            futures.iter().take(10).for_each(|future| client.cancel(future));
        }
        (OtherClient, _) => {
            let other = Client::local(1, 1, "100MB").unwrap();
            let _work = other.submit(&delayed(mix).call(1_u64, 2_u64)).unwrap();
        }
    }
}

pub fn soak(mut rng: Rng, length: Duration) {
    let client = Client::builder()
        .workers(2)
        .threads(2)
        .memory_limit("100MB")
        .allowed_deaths(1000)
        .worker_timeout(Duration::from_millis(400))
        .forward_output(false)
        .build()
        .unwrap();
    // More than fits into the memory of two workers.
    let kept = keep(&client, 40).unwrap();
    let began = Instant::now();
    let (mut deck, mut round) = (Deck::new(FAULTS), 0);
    while began.elapsed() < length || deck.rounds == 0 {
        round += 1;
        let works = (0..1 + rng.below(4)).map(|_| Work::submit(&client, &mut rng, &kept).unwrap());
        let works: Vec<_> = works.collect();
        let mut context = format!("round {round}, after");
        for _ in 0..rng.below(4) {
            pause(&mut rng);
            let fault = deck.draw(&mut rng);
            harm(&client, fault, &mut rng);
            context += &format!(" {fault:?}");
        }
        works.into_iter().for_each(|work| work.check(&client, &context).unwrap());
    }
    let deaths = client.deaths().unwrap().len();
    eprintln!("{round} rounds, {deaths} deaths in the list\n{}", client.memory().unwrap());
    drop(kept);
    // One that is stopped and has nothing to do is not replaced, and cannot drop anything.
    pids(&client).into_iter().for_each(|pid| send_signal(pid, Signal::SIGCONT));
    until("nothing is kept", || {
        let memory = client.memory().unwrap();
        memory.workers.iter().all(|w| w.managed == 0 && w.spilled == 0)
    });
}
