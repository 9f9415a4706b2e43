//! How a service is doing, for those who operate it: what its loop tells, the figures that are made
//! of it, and the HTTP server that shows them.

#[cfg(feature = "cli")]
pub mod command;
mod connection;
mod histogram;
mod history;
mod http;
mod json;
mod metrics;
mod observer;
mod page;
mod probe;
mod process;
mod report;
mod server;
mod snapshot;
mod stats;
#[cfg(feature = "cli")]
mod terminal;
mod units;
mod views;

#[cfg(any(test, fuzzing))]
pub use http::fuzz::http_request;

pub(crate) use histogram::Histogram;
pub(crate) use probe::{Probed, probe};
pub(crate) use report::Facts;
pub(crate) use server::{MAX_CONNECTIONS, StatusServer};
pub(crate) use snapshot::{Latencies, Readiness, Snapshot, Usage, Who};
pub(crate) use stats::Stats;
