//! Workers as many as the load needs.

use super::Client;
use crate::error::Result;
use crate::message::{Ask, question};
use crate::settings::AdaptOptions;
use crate::submission::backend::Backend;
use crate::submission::reply::Asked;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// While this lives, the number of workers follows their load; see [`Client::adapt`].
///
/// Dropped, or told to [`stop`](Self::stop), it leaves the number as it is. It does not keep its client open.
#[must_use = "the number of workers follows the load only while this lives"]
pub struct Adaptive {
    backend: Arc<dyn Backend>,
    serial: Option<u64>,
    range: RangeInclusive<usize>,
}

impl Client {
    /// Has the number of workers follow their load, between the ends of `range`: there are more at once when what can run
    /// now would take longer than [`target`](AdaptOptions::target), or when results take more than 60 % of the memory limits;
    /// there are fewer when that has not been so for [`wait`](AdaptOptions::wait) looks. Those that go retire: their
    /// results move, and what they run is finished. While nothing is to be done and there are as few as may be, nothing is
    /// looked at.
    ///
    /// What somebody has set with [`scale`](Self::scale) or [`retire`](Self::retire) holds until the next look. Of several
    /// that adapt the same workers the last one counts.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// use swath::client::AdaptOptions;
    /// let client = Client::local(1, 1, "512MB")?;
    /// let adaptive = client.adapt(1..=4, AdaptOptions::default())?;
    /// client.compute(&delayed(|x: u64| x * x).map(0..100_u64))?;
    /// adaptive.stop()?; // as many workers as there are now, from now on
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where the range does not lie in 1 to 1024, or for an interval of less than 10 ms;
    /// [`Error::Unsupported`](crate::Error::Unsupported) in the in-process modes.
    pub fn adapt(&self, range: RangeInclusive<usize>, options: AdaptOptions) -> Result<Adaptive> {
        let serial = self.ask(Self::adapting(&range, options)).wait()?;
        Ok(self.adaptive(serial, range))
    }

    /// [`adapt`](Self::adapt) for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// use swath::client::AdaptOptions;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::local(1, 1, "512MB")?;
    /// let adaptive = client.adapt_async(1..=4, AdaptOptions::default()).await?;
    /// adaptive.stop_async().await?;
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`adapt`](Self::adapt).
    pub async fn adapt_async(&self, range: RangeInclusive<usize>, options: AdaptOptions) -> Result<Adaptive> {
        let serial = self.ask(Self::adapting(&range, options)).await?;
        Ok(self.adaptive(serial, range))
    }

    fn adapting(range: &RangeInclusive<usize>, options: AdaptOptions) -> question::Adapt {
        question::Adapt { min: *range.start(), max: *range.end(), options }
    }

    fn adaptive(&self, serial: u64, range: RangeInclusive<usize>) -> Adaptive {
        Adaptive { backend: Arc::clone(&self.0.backend), serial: Some(serial), range }
    }
}

impl Adaptive {
    /// Leaves the number of workers as it is from now on.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn stop(mut self) -> Result<()> {
        self.asked().map_or(Ok(()), Asked::wait)
    }

    /// [`stop`](Self::stop) for async code.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stop_async(mut self) -> Result<()> {
        match self.asked() {
            Some(asked) => asked.await,
            None => Ok(()),
        }
    }

    fn asked(&mut self) -> Option<Asked<question::StopAdapting>> {
        let serial = self.serial.take()?;
        Some(Asked::new(self.backend.ask(question::StopAdapting(serial).question())))
    }
}

impl Drop for Adaptive {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        drop(self.asked());
    }
}

impl fmt::Debug for Adaptive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adaptive({:?} workers)", self.range)
    }
}
