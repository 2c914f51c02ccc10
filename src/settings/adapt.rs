//! How the number of workers follows their load.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How [`Client::adapt`](crate::Client::adapt) follows the load.
///
/// ```
/// use std::time::Duration;
/// use swath::client::AdaptOptions;
/// let options = AdaptOptions { target: Duration::from_secs(1), ..Default::default() };
/// assert_eq!((options.interval, options.wait), (Duration::from_secs(1), 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdaptOptions {
    /// How often the load is looked at while there is any. One second if nothing is said, 10 ms at least.
    pub interval: Duration,
    /// How many looks in a row must find that fewer workers would do before there are fewer. Three if nothing is said.
    pub wait: u32,
    /// How long what can run now may take with the workers there are, before there are more. Five seconds if nothing is said.
    pub target: Duration,
}

impl Default for AdaptOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), wait: 3, target: Duration::from_secs(5) }
    }
}
