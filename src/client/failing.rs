//! What becomes of the rest when a task fails.

/// What [`Client::compute_with`](crate::Client::compute_with) and [`Client::gather_with`](crate::Client::gather_with) do when a
/// task fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failing {
    /// What the client was built for: [`Wait`](Self::Wait), unless
    /// [`Builder::fail_fast`](crate::Builder::fail_fast) says otherwise.
    #[default]
    AsBuilt,
    /// The graph runs to its end; what does not need the failed task is computed. The error is the failure of the first of
    /// what was asked for that has one, and where several inputs of a task fail, that of the first of them: it does not
    /// depend on which was faster.
    Wait,
    /// The first failure is returned at once, and cancels the rest.
    ///
    /// In sync mode that is the first in graph order, the same every time. Elsewhere it is the one that was told first; where
    /// it fails several of what was asked for, the error is that of the first of these. What was cancelled because of it is
    /// never the error. Attempts that are repeated ([`DelayedFn::retries`](crate::DelayedFn::retries)) are no failures.
    Fast,
    /// What failed is left out. That is for [`Client::gather_with`](crate::Client::gather_with) alone: what is computed has a
    /// place for each value, so there it is [`Error::Invalid`](crate::Error::Invalid).
    Skip,
}

/// How [`Client::compute_with`](crate::Client::compute_with) computes.
///
/// There may be more options in later versions, so the others are named by `..Default::default()`.
///
/// ```
/// use swath::client::{ComputeOptions, Failing};
/// let options = ComputeOptions { failing: Failing::Fast, ..Default::default() };
/// assert_ne!(options, ComputeOptions::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComputeOptions {
    /// What becomes of the rest when a task fails.
    pub failing: Failing,
    /// Not `#[non_exhaustive]`, with which nobody else could write the struct, but nobody is to write all of it.
    #[doc(hidden)]
    pub _more: (),
}
