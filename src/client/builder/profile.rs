//! The option to have threads sampled.

use super::Builder;

impl Builder {
    /// Whether the threads that run tasks are sampled from the start, see [`Client::profile`](crate::Client::profile). Default: no.
    ///
    /// ```
    /// use swath::status::Mode;
    /// use swath::{Client, delayed};
    /// let client = Client::builder().mode(Mode::Threads).profile(true).build()?;
    /// client.compute(&delayed(|x: u64| x + 1).call(1))?;
    /// assert!(client.profile()?.off().is_empty());
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn profile(mut self, sample: bool) -> Self {
        self.profile = sample;
        self
    }
}
