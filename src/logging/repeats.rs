//! Lines of the log that come again and again: the first ten, then one a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::{Level, Log, Metadata, Record};

/// What a program says has this target: repd does not judge what is worth reading of it.
pub(crate) const PROGRAM: &str = "program";

/// How many lines of one kind may come at once, and how many of them a second after that.
const AT_ONCE: f64 = 10.0;
const A_SECOND: f64 = 1.0;

/// The lines of one kind: of one place in the code.
struct Kind {
    /// How many may come now.
    left: f64,
    seen: Instant,
    left_out: u64,
}

impl Kind {
    fn new(now: Instant) -> Kind {
        Kind { left: AT_ONCE, seen: now, left_out: 0 }
    }

    /// Whether one more may come, and then how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        self.left = (self.left + passed * A_SECOND).min(AT_ONCE);
        self.seen = now;
        if self.left < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A log that leaves out what comes too often, and says how much that was. Each line of `--verbose` is there, and each
/// error.
pub(crate) struct Summed<L> {
    log: L,
    kinds: Mutex<HashMap<(&'static str, u32), Kind>>,
}

impl<L: Log> Summed<L> {
    pub fn new(log: L) -> Summed<L> {
        Summed { log, kinds: Mutex::default() }
    }

    fn admit(&self, record: &Record<'_>) -> Option<u64> {
        let is_each = !matches!(record.level(), Level::Warn | Level::Info);
        let (Some(file), Some(line)) = (record.file_static(), record.line()) else {
            return Some(0);
        };
        if is_each || record.target() == PROGRAM {
            return Some(0);
        }
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry((file, line)).or_insert_with(|| Kind::new(now)).admit(now)
    }
}

impl<L: Log> Log for Summed<L> {
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

    /// Says what was left out since the last line of each kind.
    fn flush(&self) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out: u64 = kinds.values_mut().map(|kind| std::mem::take(&mut kind.left_out)).sum();
        if left_out > 0 {
            let text = format_args!("log lines left out, like others before them: {left_out}");
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
        let mut kind = Kind::new(start);
        let mut admit = |milliseconds: u64| kind.admit(start + Duration::from_millis(milliseconds));
        let came: Vec<_> = (0..=5000).step_by(100).filter_map(&mut admit).collect();
        assert_eq!(came[..10], [0; 10]);
        assert!(matches!(came.len(), 14 | 15), "{came:?}");
        assert!(came.len() as u64 + came.iter().sum::<u64>() > 51 - 10);
        // After a while without any, as at first.
        assert_eq!((0..11).filter_map(|_| admit(60_000)).count(), 10);
    }
}
