//! Limits the rate of log lines that repeat: ten at once, then one a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::{Level, Log, Metadata, Record};

/// Target of the lines that a program writes. They are never left out: repd cannot judge their
/// worth.
pub(crate) const PROGRAM_TARGET: &str = "program";

/// Maximum number of lines from one place in the code that are logged at once.
const BURST: f64 = 10.0;
/// Number of lines from one place in the code that are logged per second after a burst.
const LINES_PER_SECOND: f64 = 1.0;

/// The token bucket of one place in the code.
struct Bucket {
    /// Number of lines that may be logged now.
    tokens: f64,
    /// Time of the last line.
    updated: Instant,
    /// Number of lines left out since one was logged.
    left_out: u64,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { tokens: BURST, updated: now, left_out: 0 }
    }

    /// Takes a token for one more line. Returns how many lines were left out before it, or
    /// `Option::None` if it is left out too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + passed * LINES_PER_SECOND).min(BURST);
        self.updated = now;
        if self.tokens < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A log that leaves out warnings and information that repeat too often, and says how many lines it
/// left out. Errors and the lines of `--verbose` are always logged.
pub(crate) struct RateLimited<L> {
    log: L,
    /// Buckets by file and line.
    buckets: Mutex<HashMap<(&'static str, u32), Bucket>>,
}

impl<L: Log> RateLimited<L> {
    pub fn new(log: L) -> RateLimited<L> {
        RateLimited { log, buckets: Mutex::default() }
    }

    /// Takes a token for `record` if it is limited. Returns how many lines like it were left out
    /// before it, or `Option::None` if it is left out too.
    fn admit(&self, record: &Record<'_>) -> Option<u64> {
        let is_limited = matches!(record.level(), Level::Warn | Level::Info)
            && record.target() != PROGRAM_TARGET;
        let (true, Some(file), Some(line)) = (is_limited, record.file_static(), record.line())
        else {
            return Some(0);
        };
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry((file, line)).or_insert_with(|| Bucket::new(now)).admit(now)
    }
}

impl<L: Log> Log for RateLimited<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        match self.admit(record) {
            None => (),
            Some(0) => self.log.log(record),
            Some(left_out) => self.log.log(
                &Record::builder()
                    .level(record.level())
                    .args(format_args!("{} (and {left_out} more like it)", record.args()))
                    .build(),
            ),
        }
    }

    /// Logs how many lines were left out that no later line has told of.
    fn flush(&self) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out: u64 =
            buckets.values_mut().map(|bucket| std::mem::take(&mut bucket.left_out)).sum();
        if left_out > 0 {
            let text = format_args!("repeated log lines left out: {left_out}");
            self.log.log(&Record::builder().level(Level::Info).args(text).build());
        }
        self.log.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_many_lines_ten_come_and_then_one_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut admit =
            |milliseconds: u64| bucket.admit(start + Duration::from_millis(milliseconds));
        let came: Vec<_> = (0..=5000).step_by(100).filter_map(&mut admit).collect();
        assert_eq!(came[..10], [0; 10]);
        assert!(matches!(came.len(), 14 | 15), "{came:?}");
        assert!(came.len() as u64 + came.iter().sum::<u64>() > 51 - 10);
        // The bucket is full again after a minute without lines.
        assert_eq!((0..11).filter_map(|_| admit(60_000)).count(), 10);
    }
}
