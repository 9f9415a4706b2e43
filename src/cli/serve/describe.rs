//! What `repd serve --check` prints: the options that would be used, as a command line.

use std::fmt::Write;

use super::{LEVELS, Serve, lower};
use crate::config::Backend;

impl Serve {
    /// Returns each option and its value on a line of its own, as `--check` prints them.
    pub fn describe(&self) -> String {
        let config = self.config();
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String never fails.
            let _ = writeln!(text, "--{name} {value}");
        };
        for (name, endpoints) in [
            ("listen", &config.listen[..]),
            ("backend", config.external()),
            ("status", config.status.as_slice()),
            ("upstream", config.upstreams()),
        ] {
            endpoints.iter().for_each(|it| line(name, &quoted(&it.to_string())));
        }
        match &config.backend {
            Backend::External(_) | Backend::Upstream(_) => {
                line("max-outstanding", &config.max_outstanding);
            }
            Backend::Workers(_) => {
                line("workers", &config.worker_count());
                if self.program.is_empty() {
                    let handler = self.handler.unwrap_or_default();
                    line("handler", &lower(handler));
                } else {
                    let framing = self.framing.unwrap_or_default();
                    line("framing", &framing);
                }
            }
        }
        let files = [
            ("key", &self.key),
            ("clients", &self.clients),
            ("backend-clients", &self.backend_clients),
            ("servers", &self.servers),
        ];
        for (name, file) in files {
            file.iter().for_each(|file| line(name, &quoted(&file.to_string_lossy())));
        }
        config.allow.iter().for_each(|network| line("allow", network));
        config.deny.iter().for_each(|network| line("deny", network));
        line("timeout", &config.timeout.as_secs_f64());
        line("retries", &config.retries);
        line("drain", &config.drain.as_secs_f64());
        line("max-message-size", &config.max_message_size);
        line("max-frames", &config.max_frames);
        line("max-memory", &config.max_memory_bytes());
        let limits = [("max-clients", config.max_clients), ("client-rate", config.client_rate)];
        for (name, limit) in limits {
            limit.iter().for_each(|limit| line(name, limit));
        }
        line("client-outstanding", &config.client_outstanding);
        line("io-threads", &config.io_threads);
        line("backlog", &config.backlog);
        line("heartbeat", &config.heartbeat.as_secs_f64());
        line("log", &lower(self.log));
        line("log-format", &lower(self.log_format));
        let level = LEVELS.iter().find(|(_, level)| *level == self.log_level());
        level.iter().for_each(|(name, _)| line("log-level", name));
        let switches = [
            ("hedge", self.hedge),
            ("multipart", self.multipart),
            ("name-clients", self.name_clients),
        ];
        for (switch, is_on) in switches {
            if is_on {
                let _ = writeln!(text, "--{switch}");
            }
        }
        if !self.program.is_empty() {
            let words = self.program.iter().map(|word| quoted(word));
            let _ = writeln!(text, "-- {}", words.collect::<Vec<_>>().join(" "));
        }
        text
    }
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
