//! Traits that only swath implements.
//~ missing: `into_arg`
//~ missing: `lower`, `output`
//~ missing: `SEAL`
//~ missing: `RECORD`
//~ conflicting implementations of trait `IntoError`
//~ could not find `internal` in `swath`

#[derive(Clone, Copy)]
struct Mine;

impl swath::delayed::IntoArg<u64> for Mine {}

impl swath::client::Computable for Mine {
    type Output = u64;
    type Persisted = u64;
}

impl swath::delayed::Signature<fn(u64) -> u64> for Mine {}

impl swath::delayed::TaskFunction<(u64,), u64> for Mine {}

#[derive(Debug)]
struct Oops;

impl std::fmt::Display for Oops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("oops")
    }
}

impl std::error::Error for Oops {}

impl swath::delayed::IntoError for Oops {}

fn name(_: swath::internal::Arg) {}

fn main() {}
