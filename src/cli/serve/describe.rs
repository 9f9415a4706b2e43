//! What `repd serve --check` prints: the options that would be used, as a command line.

use std::fmt::{Display, Write};

use super::logging::LEVELS;
use super::{Serve, lower};
use crate::config::{Backend, Config};

/// Options, each on a line of its own.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn option(&mut self, name: &str, value: impl Display) {
        // Writing to a String never fails.
        let _ = writeln!(self.0, "--{name} {value}");
    }

    fn options(&mut self, name: &str, values: impl IntoIterator<Item = impl Display>) {
        values.into_iter().for_each(|value| self.option(name, value));
    }

    fn switch(&mut self, name: &str, is_on: bool) {
        if is_on {
            let _ = writeln!(self.0, "--{name}");
        }
    }
}

impl Serve {
    /// Returns each option and its value on a line of its own, as `--check` prints them.
    pub fn describe(&self) -> String {
        let (config, mut lines) = (self.config(), Lines::default());
        for (name, endpoints) in [
            ("listen", &config.listen[..]),
            ("backend", config.external()),
            ("status", config.status.as_slice()),
            ("upstream", config.upstreams()),
        ] {
            lines.options(name, endpoints.iter().map(|it| quoted(&it.to_string())));
        }
        self.describe_backend(&config, &mut lines);
        for (name, file) in [
            ("key", &self.key),
            ("clients", &self.clients),
            ("backend-clients", &self.backend_clients),
            ("servers", &self.servers),
        ] {
            lines.options(name, file.iter().map(|file| quoted(&file.to_string_lossy())));
        }
        lines.options("allow", &config.allow);
        lines.options("deny", &config.deny);
        describe_limits(&config, &mut lines);
        lines.option("log", lower(self.log));
        lines.option("log-format", lower(self.log_format));
        let level = LEVELS.iter().find(|(_, level)| *level == self.log_level());
        lines.options("log-level", level.map(|(name, _)| name));
        lines.switch("hedge", self.hedge);
        lines.switch("multipart", self.multipart);
        lines.switch("name-clients", self.name_clients);
        if !self.program.is_empty() {
            let words = self.program.iter().map(|word| quoted(word));
            let _ = writeln!(lines.0, "-- {}", words.collect::<Vec<_>>().join(" "));
        }
        lines.0
    }

    fn describe_backend(&self, config: &Config, lines: &mut Lines) {
        match &config.backend {
            Backend::External(_) | Backend::Upstream(_) => {
                lines.option("max-outstanding", config.max_outstanding);
            }
            Backend::Workers(_) => {
                lines.option("workers", config.worker_count());
                if self.program.is_empty() {
                    lines.option("handler", lower(self.handler.unwrap_or_default()));
                } else {
                    lines.option("framing", self.framing.unwrap_or_default());
                }
            }
        }
    }
}

fn describe_limits(config: &Config, lines: &mut Lines) {
    lines.option("timeout", config.timeout.as_secs_f64());
    lines.option("retries", config.retries);
    lines.option("drain", config.drain.as_secs_f64());
    lines.option("max-message-size", config.max_message_size);
    lines.option("max-frames", config.max_frames);
    lines.option("max-memory", config.max_memory_bytes());
    lines.options("max-clients", config.max_clients);
    lines.options("client-rate", config.client_rate);
    lines.option("client-outstanding", config.client_outstanding);
    lines.option("io-threads", config.io_threads);
    lines.option("backlog", config.backlog);
    lines.option("heartbeat", config.heartbeat.as_secs_f64());
}

/// Returns `word` quoted for a POSIX shell, or unchanged if it needs no quotes.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
