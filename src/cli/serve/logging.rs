//! The options of `repd serve` that tell what is logged, where, and how.

use super::Serve;
use crate::logging::{LevelFilter, Target};

/// What `--log` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LogTarget {
    #[default]
    Stderr,
    Journal,
    Syslog,
}

/// What `--log-format` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// What `--log-level` says, by name.
pub(super) const LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::Error),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
];

impl Serve {
    /// Returns where log lines go.
    pub fn log_target(&self) -> Target {
        match (self.log, self.log_format) {
            (LogTarget::Stderr, Format::Text) => Target::Stderr,
            (LogTarget::Stderr, Format::Json) => Target::Json,
            (LogTarget::Journal, _) => Target::Journal,
            (LogTarget::Syslog, _) => Target::Syslog,
        }
    }

    /// Returns the level from which on lines are logged.
    pub fn log_level(&self) -> LevelFilter {
        let other = if self.verbose { LevelFilter::Debug } else { LevelFilter::Info };
        self.log_level.unwrap_or(other)
    }
}

/// Reads `--log`.
pub(super) fn target(name: &str) -> Result<LogTarget, String> {
    match name {
        "stderr" => Ok(LogTarget::Stderr),
        "journal" => Ok(LogTarget::Journal),
        "syslog" => Ok(LogTarget::Syslog),
        _ => Err("give stderr, journal or syslog".into()),
    }
}

/// Reads `--log-format`.
pub(super) fn format(name: &str) -> Result<Format, String> {
    match name {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("give text or json".into()),
    }
}

/// Reads `--log-level`.
pub(super) fn level(name: &str) -> Result<LevelFilter, String> {
    let found = LEVELS.iter().find(|(level, _)| *level == name);
    found.map(|(_, level)| *level).ok_or_else(|| "give error, warning, info or debug".into())
}
