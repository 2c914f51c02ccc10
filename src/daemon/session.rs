//! The actor that owns one program's connection.

use super::actor::{Daemon, Left};
use crate::host::report;
use crate::ids::SessionId;
use crate::ipc::frame::{Decoder, MAX_FRAME};
use crate::message::ToSession;
use crate::supervisor::actor::{FromSocket, SessionMessage, Supervisor};
use crate::supervisor::connection::Connection;
use actix::prelude::*;
use std::sync::Arc;

pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) connection: Arc<Connection>,
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) cluster: Addr<Daemon>,
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let reading = read(self.id, Arc::clone(&self.connection), self.supervisor.clone());
        ctx.spawn(reading.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.connection.close();
        self.cluster.do_send(Left(self.id));
    }
}

impl Handler<SessionMessage> for Session {
    type Result = ();

    fn handle(&mut self, msg: SessionMessage, ctx: &mut Context<Self>) {
        let SessionMessage(message) = msg;
        if let Err(e) = self.connection.send(&message) {
            report!(Error, "session {} is closed: a message to it cannot be sent: {e}", self.id.0);
            ctx.stop();
        }
        if let ToSession::FilesEnded(files) = &message {
            self.connection.forget(files);
        }
    }
}

/// Brings requests to the supervisor until the connection ends. The next are read only when it has taken the last.
async fn read(id: SessionId, connection: Arc<Connection>, supervisor: Addr<Supervisor>) {
    let mut decoder = Decoder::new(MAX_FRAME);
    loop {
        let reason = match connection.receive(&mut decoder).await {
            Ok(None) => return,
            Ok(Some(frames)) => match supervisor.send(FromSocket { session: id, frames }).await {
                Ok(Ok(())) => continue,
                Ok(Err(reason)) => reason,
                Err(_) => "its workers have been stopped".to_string(),
            },
            Err(reason) => reason,
        };
        return report!(Error, "session {} is closed: {reason}", id.0);
    }
}
