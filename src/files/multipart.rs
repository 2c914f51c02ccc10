//! Uploads in parts.
//!
//! What has been begun at a store and is neither completed nor aborted is kept there, and paid for. So it belongs to a task
//! of the event loop, not to the writer: that one may be cancelled at any moment, also while the store has not yet said how
//! the upload is called. When nobody waits for its answers any more, the task aborts the upload.

use super::object::{event_loop, problem, wait};
use crate::error::file::FileProblem;
use object_store::MultipartUpload as Upload;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc;

/// So long one waits that an upload is aborted: the process may end soon.
const LEAVE: Duration = Duration::from_secs(10);

/// What is to be done next.
pub(super) enum UploadStep {
    Part(Vec<u8>),
    Complete,
}

/// An upload in parts. Dropped before it is complete, it is aborted.
pub(super) struct MultipartUpload {
    steps: mpsc::Sender<UploadStep>,
    answers: Option<mpsc::Receiver<Result<(), FileProblem>>>,
    /// Whether an answer is to come.
    is_under_way: bool,
    /// Disconnected when the task has ended.
    ended: Receiver<()>,
}

impl MultipartUpload {
    /// Begins one.
    pub(super) fn send(
        begin: impl Future<Output = object_store::Result<Box<dyn Upload>>> + Send + 'static,
    ) -> io::Result<Self> {
        // There is never more than one of either.
        let ((steps, next), (answer, answers)) = (mpsc::channel(1), mpsc::channel(1));
        let (alive, ended) = sync_channel(0);
        event_loop()?.spawn(async move {
            upload(begin, next, answer).await;
            drop(alive);
        });
        Ok(Self { steps, answers: Some(answers), is_under_way: false, ended })
    }

    /// Begins a step when the one before has been taken.
    pub(super) fn step(&mut self, step: UploadStep) -> io::Result<()> {
        self.settle()?;
        self.steps.try_send(step).map_err(|_| io::Error::other("the upload has ended before"))?;
        self.is_under_way = true;
        Ok(())
    }

    /// Waits for the answer to the last step.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_under_way) {
            return Ok(());
        }
        let Some(mut answers) = self.answers.take() else { return Err(FileProblem::Cancelled.into()) };
        let (answer, answers) = wait(async move { (answers.recv().await, answers) })?;
        self.answers = Some(answers);
        Ok(answer.unwrap_or(Err(FileProblem::Cancelled))?)
    }
}

impl Drop for MultipartUpload {
    fn drop(&mut self) {
        self.answers = None;
        // Nothing is ever sent.
        let _ = self.ended.recv_timeout(LEAVE);
    }
}

async fn upload(
    begin: impl Future<Output = object_store::Result<Box<dyn Upload>>>,
    mut steps: mpsc::Receiver<UploadStep>,
    answers: mpsc::Sender<Result<(), FileProblem>>,
) {
    // Not given up halfway: then nobody would know what to abort.
    let mut upload = match begin.await {
        Ok(upload) => upload,
        Err(e) => return drop(answers.send(Err(problem(e))).await),
    };
    let steps = async {
        while let Some(step) = steps.recv().await {
            match step {
                UploadStep::Part(part) => upload.put_part(part.into()).await.map_err(problem)?,
                UploadStep::Complete => return upload.complete().await.map(drop).map_err(problem),
            }
            // If nobody is there, that is seen below.
            let _ = answers.send(Ok(())).await;
        }
        Err(FileProblem::Cancelled)
    };
    let result = tokio::select! {
        biased;
        result = steps => result,
        () = answers.closed() => Err(FileProblem::Cancelled),
    };
    if result.is_err()
        && let Err(e) = upload.abort().await
    {
        log::warn!("an upload that failed could not be aborted: {e}");
    }
    let _ = answers.send(result).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{BoxFuture, FutureExt, pending, ready};
    use object_store::{PutPayload, PutResult, UploadPart};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::oneshot;

    /// A store that takes parts, and never answers to the last request.
    #[derive(Debug)]
    struct Silent {
        asked: Option<oneshot::Sender<()>>,
        is_aborted: Arc<AtomicBool>,
    }

    impl Upload for Silent {
        fn put_part(&mut self, _: PutPayload) -> UploadPart {
            ready(Ok(())).boxed()
        }

        fn complete<'a, 'b>(&'a mut self) -> BoxFuture<'b, object_store::Result<PutResult>>
        where
            'a: 'b,
            Self: 'b,
        {
            let _ = self.asked.take().map(|asked| asked.send(()));
            pending().boxed()
        }

        fn abort<'a, 'b>(&'a mut self) -> BoxFuture<'b, object_store::Result<()>>
        where
            'a: 'b,
            Self: 'b,
        {
            self.is_aborted.store(true, Ordering::SeqCst);
            ready(Ok(())).boxed()
        }
    }

    #[test]
    fn an_upload_is_aborted_if_its_writer_goes_while_the_store_is_asked() {
        let is_aborted = Arc::new(AtomicBool::new(false));
        let (asked, is_asked) = oneshot::channel();
        let silent = Silent { asked: Some(asked), is_aborted: Arc::clone(&is_aborted) };
        let mut parts = MultipartUpload::send(async { Ok(Box::new(silent) as Box<dyn Upload>) }).expect("begun");
        parts.step(UploadStep::Part(vec![1])).expect("taken");
        parts.step(UploadStep::Complete).expect("taken");
        wait(is_asked).expect("an event loop").expect("asked");
        assert!(!is_aborted.load(Ordering::SeqCst));
        drop(parts);
        assert!(is_aborted.load(Ordering::SeqCst));
    }

    #[test]
    fn an_upload_is_aborted_if_its_writer_goes_before_it_has_begun() {
        let is_aborted = Arc::new(AtomicBool::new(false));
        let (begin, begun) = oneshot::channel::<()>();
        let silent = Silent { asked: None, is_aborted: Arc::clone(&is_aborted) };
        let begin_later = async move {
            let _ = begun.await;
            Ok(Box::new(silent) as Box<dyn Upload>)
        };
        let mut parts = MultipartUpload::send(begin_later).expect("begun");
        parts.step(UploadStep::Part(vec![1])).expect("taken");
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| drop(parts));
            begin.send(()).expect("awaited");
            dropping.join().expect("no panic");
        });
        assert!(is_aborted.load(Ordering::SeqCst));
    }
}
