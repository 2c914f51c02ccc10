//! Programs that share the workers of a local cluster.

use super::*;

/// Two programs on a cluster of one worker.
#[test]
fn programs_of_a_local_cluster_share_it_by_weight() {
    let name = format!("shares-{}", std::process::id());
    let (tell, told) = mpsc::channel();
    let options = Client::builder().workers(1).threads(1).name(name);
    let server = std::thread::spawn(move || local::serve(options, |status| tell.send(status.socket.clone()).unwrap()));
    let socket = told.recv_timeout(LONG).unwrap();
    let short = |x: u64| {
        std::thread::sleep(Duration::from_millis(2));
        x
    };
    for (weight, share) in [(1.0, 200), (4.0, 50)] {
        let [one, other] = [1.0, weight].map(|w| Client::builder().cluster(&socket).weight(w).build().unwrap());
        let mine = one.map(short, 0..1000).unwrap();
        let theirs = other.map(short, 0..1000).unwrap();
        let done = |after: usize| {
            theirs[after].result().unwrap();
            mine.iter().filter(|future| future.is_done()).count()
        };
        let before = done(49);
        let had = done(249) - before;
        assert!(had.abs_diff(share) <= share / 4 + 5, "{had} tasks beside 200 of weight {weight}");
    }
    daemon::connect::control(&ClusterPaths::of(&socket).unwrap(), Control::Stop, crate::daemon::connect::PATIENCE)
        .unwrap();
    server.join().unwrap().unwrap();
}

#[test]
fn a_weight_that_makes_no_sense_is_refused() {
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Client::builder().mode(Mode::Threads).weight(weight).build().unwrap_err();
        assert!(error.to_string().contains("weight"), "{error}");
    }
}
