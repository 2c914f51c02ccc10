//! What this executable becomes when it is started again.

use crate::daemon::janitor::clean_up_after;
use crate::ipc::page::PageName;
use crate::ipc::socket::Socket;
use crate::ipc::start::{self, Constructor, Roles};
use crate::worker;
use std::path::Path;

struct This;

impl Roles for This {
    fn worker(socket: Socket, page: Option<PageName>) -> ! {
        worker::main(socket, page)
    }

    fn janitor(process: u32, socket: &Path) {
        clean_up_after(process, socket);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = start::hook::<This>;

/// Keeps the hook in the executable. Whatever starts workers of this executable calls it: [`Builder::build`] and
/// [`local::serve`](crate::local::serve).
///
/// [`Builder::build`]: crate::Builder::build
pub(crate) fn link() {
    std::hint::black_box(&HOOK);
}

/// Turns this process into a worker if it was started as one; does nothing otherwise.
///
/// Programs need not call it: by default it happens by itself before `main`. With
/// [`StartMethod::Init`](crate::StartMethod::Init) it must be the first line of `main`.
pub fn init() {
    link();
    start::become_worker_if_started_as_one::<This>();
}
