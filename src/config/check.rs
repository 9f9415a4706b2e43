//! What is wrong with the settings of a service, before it starts.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    BACKLOG_RANGE, Backend, CLIENT_OUTSTANDING_RANGE, CLIENT_RATE_RANGE, Config, DRAIN_RANGE,
    FRAMES_RANGE, HEARTBEAT_RANGE, IO_THREADS_RANGE, MAX_CLIENTS_RANGE, MEMORY_RANGE,
    OUTSTANDING_RANGE, RETRIES_RANGE, SIZE_RANGE, TIMEOUT_RANGE, WORKERS_RANGE,
};
use crate::auth::Files;
use crate::endpoint::Endpoint;

impl Config {
    /// Returns a setting about keys that needs another one, and that one.
    pub(crate) fn missing_file(&self) -> Option<(&'static str, &'static str)> {
        let Files { key, clients, workers, servers } = &self.keys;
        let has_tcp = |endpoints: &[Endpoint]| endpoints.iter().any(Endpoint::may_be_tcp);
        let needed = [
            (key.is_some() && has_tcp(&self.listen), "key", "clients", clients.is_some()),
            (
                key.is_some() && has_tcp(self.external()),
                "key",
                "backend-clients",
                workers.is_some(),
            ),
            (clients.is_some(), "clients", "key", key.is_some()),
            (workers.is_some(), "backend-clients", "key", key.is_some()),
            (workers.is_some(), "backend-clients", "backend", !self.external().is_empty()),
            (servers.is_some(), "servers", "key", key.is_some()),
            (servers.is_some(), "servers", "upstream", !self.upstreams().is_empty()),
        ];
        let missing = needed.into_iter().find(|(is_needed, .., is_given)| *is_needed && !is_given);
        missing.map(|(_, given, missing, _)| (given, missing))
    }

    /// Returns what is out of its range, as `setting: what to give`; `None` if nothing is.
    pub(crate) fn invalid_setting(&self) -> Option<String> {
        let numbers = [
            ("workers", self.worker_count(), WORKERS_RANGE),
            ("max_outstanding", self.max_outstanding, OUTSTANDING_RANGE),
            ("retries", self.retries, RETRIES_RANGE),
            ("max_message_size", self.max_message_size, SIZE_RANGE),
            ("max_frames", self.max_frames, FRAMES_RANGE),
            ("io_threads", self.io_threads, IO_THREADS_RANGE),
            ("backlog", self.backlog, BACKLOG_RANGE),
            ("client_outstanding", self.client_outstanding, CLIENT_OUTSTANDING_RANGE),
            ("client_rate", self.client_rate.unwrap_or(1), CLIENT_RATE_RANGE),
            ("max_clients", self.max_clients.unwrap_or(1), MAX_CLIENTS_RANGE),
        ];
        let times = [
            ("timeout", self.timeout, TIMEOUT_RANGE),
            ("drain", self.drain, DRAIN_RANGE),
            ("heartbeat", self.heartbeat, HEARTBEAT_RANGE),
        ];
        if self.max_memory_bytes() < self.max_message_size.saturating_mul(2) {
            return Some("max_memory: give at least twice max_message_size".into());
        }
        let of_endpoints = self.invalid_endpoints();
        if of_endpoints.is_some() {
            return of_endpoints;
        }
        match &self.backend {
            _ if !self.hedge => (),
            Backend::Workers(_) => return Some("hedge: not for workers of this process".into()),
            _ if self.retries == 0 => return Some("hedge alone: give retries too".into()),
            _ => (),
        }
        if let Some((given, missing)) = self.missing_file() {
            return Some(format!("{given} alone: give {missing} too"));
        }
        let number = numbers.into_iter().find(|(_, number, range)| !range.contains(number));
        let time = times.into_iter().find(|(_, time, range)| !range.contains(time));
        let memory = (!MEMORY_RANGE.contains(&(self.max_memory_bytes() as u64)))
            .then(|| format!("max_memory: {}", number_hint(&MEMORY_RANGE)));
        number
            .map(|(name, _, range)| format!("{name}: {}", number_hint(&range)))
            .or(memory)
            .or(time.map(|(name, _, range)| format!("{name}: {}", seconds_hint(&range))))
    }

    /// Returns which endpoints are missing, or given twice.
    fn invalid_endpoints(&self) -> Option<String> {
        let upstreams = self.upstreams();
        let is_twice = |(place, endpoint)| upstreams[..place].contains(endpoint);
        if let Some((_, upstream)) = upstreams.iter().enumerate().find(|it| is_twice(*it)) {
            return Some(format!("upstream: {upstream} is given twice; give it once"));
        }
        let empty = match &self.backend {
            _ if self.listen.is_empty() => Some("listen"),
            Backend::External(endpoints) if endpoints.is_empty() => Some("backend"),
            Backend::Upstream(endpoints) if endpoints.is_empty() => Some("upstream"),
            _ => None,
        };
        empty.map(|name| format!("{name}: give at least one endpoint"))
    }
}

/// Returns the hint for a number within `range`.
pub(crate) fn number_hint(range: &RangeInclusive<impl Display>) -> String {
    format!("give a whole number from {} to {}", range.start(), range.end())
}

/// Returns the hint for a time within `range`.
pub(crate) fn seconds_hint(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (range.start().as_secs_f64(), range.end().as_secs());
    format!("give seconds from {least} to {most}, or a time such as 500ms, 5s or 2m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_their_ranges() {
        assert_eq!(Config::default().invalid_setting(), None);
    }

    #[test]
    fn no_size_is_too_large_to_be_told() {
        let config = Config::default().max_message_size(usize::MAX);
        let told = config.invalid_setting().unwrap();
        assert_eq!(told, "max_message_size: give a whole number from 1 to 1073741824");
        let config = Config::default().max_memory((1 << 20) - 1).max_message_size(1);
        let told = config.invalid_setting().unwrap();
        assert_eq!(told, "max_memory: give a whole number from 1048576 to 1099511627776");
    }

    #[test]
    fn a_config_out_of_range_names_the_setting() {
        let config = Config { io_threads: 65, ..Config::default() };
        assert_eq!(
            config.invalid_setting().unwrap(),
            "io_threads: give a whole number from 0 to 64"
        );
        let config = Config { timeout: Duration::ZERO, ..Config::default() };
        assert!(
            config
                .invalid_setting()
                .unwrap()
                .starts_with("timeout: give seconds from 0.001 to 86400")
        );
    }
}
