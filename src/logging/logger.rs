//! The logger: it counts lines, leaves out what repeats, and hands on the rest to where they go.

use std::sync::atomic::{AtomicUsize, Ordering};

use log::{Level, Log, Metadata, Record};

use super::line::Line;
use super::recent;
use super::repeats::Repeats;
use super::standard_error::{Format, StandardError};

/// Where lines go.
pub(super) trait Sink: Send + Sync {
    /// Writes a line, and never waits for whoever reads it; returns false if the line is lost.
    fn write(&self, line: &Line) -> bool;
}

pub(super) struct Logger {
    sink: Box<dyn Sink>,
    /// Where errors go too: who starts the service by hand looks at standard error.
    errors: Option<StandardError>,
    repeats: Repeats,
    /// Number of lines that were lost and that the log was not told of yet.
    lost: AtomicUsize,
}

impl Logger {
    pub fn new(sink: impl Sink + 'static) -> Logger {
        let (repeats, lost) = Default::default();
        Logger { sink: Box::new(sink), errors: None, repeats, lost }
    }

    /// Has errors be on standard error too.
    pub fn with_errors(self) -> Logger {
        Logger { errors: Some(StandardError::new(Format::Text)), ..self }
    }

    fn write(&self, line: &Line) {
        if line.level <= Level::Warn && !line.is_program {
            recent::keep(line);
        }
        if let (Some(errors), Level::Error) = (&self.errors, line.level) {
            errors.write(line);
        }
        self.tell_lost();
        if !self.sink.write(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells how many lines were lost, if that can be told now.
    fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let warning =
            || Line::new(Level::Warn, format!("log lines lost, since nobody read them: {lost}"));
        if lost > 0 && !self.sink.write(&warning()) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        recent::count(record.level());
        if let Some(line) = self.repeats.admit(record) {
            self.write(&line);
        }
    }

    /// Logs the last of what was left out of each place, and what was lost.
    fn flush(&self) {
        self.repeats.take_left_out().iter().for_each(|line| self.write(line));
        self.tell_lost();
    }
}
