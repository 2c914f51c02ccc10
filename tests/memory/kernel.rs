//! Workers that the kernel ends because memory runs out, in a control group of their own where one can be made.

use crate::common::control_group::Group;
use crate::common::*;
use crate::take;
use nix::sys::signal::Signal;
use swath::delayed;
use swath::error::{Cause, DeathCause};
use swath::local::Bound;
use swath::memory::MemoryLimit;

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    assert_eq!(role, "grouped");
    let client = swath::Client::local(1, 1, MemoryLimit::None).unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    // Killed by somebody: the kernel has counted nothing.
    let dir = directory();
    fn wait(file: String) -> bool {
        note(&file, "runs");
        wait_for_file(&format!("{file}.go"))
    }
    let file = path(&dir, "waits");
    let future = client.submit(&delayed(wait).call(&*file)).unwrap();
    until("it runs", || !notes(&file).is_empty());
    send_signal(pids(&client)[0], Signal::SIGKILL);
    touch(&format!("{file}.go"));
    assert!(future.result().unwrap());
    let death = client.deaths().unwrap().pop().unwrap();
    assert_eq!((death.cause.clone(), death.available.clone()), (DeathCause::Signal(9), None));
    assert!(!death.to_string().contains("memory"), "{death}");
    // Killed by the kernel: once beside others, and then with the worker for itself.
    let error = client.compute(&delayed(take).call(400)).unwrap_err();
    let Cause::MemoryLimit { records, .. } = error.task().unwrap().cause() else { panic!("{error}") };
    assert_eq!(records.len(), 2);
    for death in records {
        assert_eq!(death.cause, DeathCause::OutOfMemory, "{death}");
        let available = death.available.as_ref().unwrap();
        assert!(matches!(available.bound, Bound::ControlGroup(_)), "{death}");
        assert!(available.of == 200 << 20 && available.bytes <= available.of && death.cause.is_of_memory(), "{death}");
    }
    say(error);
    assert_eq!(client.compute(&delayed(take).call(20)).unwrap(), 20);
    assert_eq!(client.deaths().unwrap().len(), 3);
}

#[test]
fn what_the_kernel_ends_for_want_of_memory_is_said_to_be() {
    let _clean = Clean::start();
    let Some(group) = Group::with_memory(200 << 20) else {
        crate::common::permitted::skip("no control group can be made here");
        return;
    };
    let words = play(group.holding(role("memory::kernel::roles", "grouped")));
    assert!(words[0].contains("was killed by the kernel, which had run out of memory"), "{words:?}");
    let told = format!("the control group {} had ", group.directory().display());
    assert!(words[0].contains(&told) && words[0].contains(" of 209.7 MB available"), "{words:?}");
}
