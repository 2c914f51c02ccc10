//! A supervisor in a thread of the client's own process.

use crate::coordinator;
use crate::error::{Error, Result};
use crate::events::sources::RunSources;
use crate::host;
use crate::ids::SessionId;
use crate::ipc::payload::Payload;
use crate::message::Request;
use crate::remote::{Description, Remote, Uplink};
use crate::settings::Settings;
use crate::submission::waiter::is_telling;
use crate::supervisor::actor::{CloseSession, FastPath, Stop, Supervisor};
use crate::supervisor::fast_path::ENDED_EARLY;
use crate::supervisor::{Executable, SharedMemory};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// A supervisor in this process, with its thread.
struct InProcess {
    fast_path: Arc<FastPath>,
    thread: parking_lot::Mutex<Option<JoinHandle<()>>>,
    sources: Arc<RunSources>,
    timeout: Duration,
}

impl Uplink for InProcess {
    fn sources(&self) -> Option<Arc<RunSources>> {
        Some(Arc::clone(&self.sources))
    }

    fn send(&self, request: Request) -> Result<()> {
        self.fast_path.ask(request);
        Ok(())
    }

    fn coordinate(&self, request: coordinator::Request<Payload>) -> Result<()> {
        self.fast_path.coordinate(request);
        Ok(())
    }

    fn poll(&self) {
        self.fast_path.poll();
    }

    fn close(&self) {
        self.fast_path.supervisor.do_send(CloseSession(SessionId::CLIENT));
        self.fast_path.supervisor.do_send(Stop);
        let thread = self.thread.lock().take();
        // The last handle may go where a client is told something, which the supervisor would wait for.
        let awaited = is_telling() || thread.as_ref().is_some_and(|t| t.thread().id() == std::thread::current().id());
        if let Some(thread) = thread.filter(|_| !awaited) {
            let began = std::time::Instant::now();
            while !thread.is_finished() && began.elapsed() < self.timeout {
                std::thread::park_timeout(Duration::from_micros(200));
            }
            if thread.is_finished() && thread.join().is_err() {
                log::error!("the supervisor panicked");
            }
            host::finish();
        }
    }
}

/// Starts workers of this executable under a supervisor in a thread of this process.
pub(crate) fn start_here(settings: Settings, sources: Arc<RunSources>) -> Result<Arc<Remote>> {
    let mut shared = SharedMemory::new(&settings)?;
    shared.sources = Arc::clone(&sources);
    let description = Description::new(format!("processes client `{}`", settings.name), Some(settings.clone()));
    let pool = shared.pool.clone();
    let (tell, told) = mpsc::channel();
    let started = settings.clone();
    let thread = std::thread::Builder::new()
        .name("swath-supervisor".to_string())
        .spawn(move || {
            let system = actix::System::new();
            system.block_on(async move {
                match Supervisor::new(started, Executable::Own, shared) {
                    Ok(supervisor) => drop(tell.send(Ok(supervisor.open()))),
                    Err(e) => {
                        drop(tell.send(Err(e)));
                        actix::System::current().stop();
                    }
                }
            });
            if let Err(e) = system.run() {
                log::error!("the supervisor's event loop failed: {e}");
            }
        })
        .map_err(|e| Error::Resource {
            resource: "threads".to_string(),
            reason: format!("none can be started for the supervisor: {e}; raise the limit with `ulimit -u`"),
        })?;
    let closed = || Error::Spawn { reason: ENDED_EARLY.to_string() };
    let fast_path = Arc::new(told.recv().map_err(|_| closed())??);
    let thread = parking_lot::Mutex::new(Some(thread));
    let uplink = InProcess { fast_path: Arc::clone(&fast_path), thread, sources, timeout: Duration::from_secs(10) };
    let remote = Remote::new(Box::new(uplink), SessionId::CLIENT, pool, description);
    fast_path.belongs_to(&remote);
    Ok(remote)
}
