//! Limits the rate of log lines that repeat: ten at once, then one a second. The last one is always
//! told in the end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use log::{Level, Record};

use super::PROGRAM_TARGET;
use super::line::Line;

/// Maximum number of lines from one place in the code that are logged at once.
const BURST: f64 = 10.0;
/// Number of lines from one place in the code that are logged per second after a burst.
const LINES_PER_SECOND: f64 = 1.0;

/// The token bucket of one place in the code.
struct Bucket {
    /// Number of lines that may be logged now; below zero after [`Bucket::take_left_out`].
    tokens: f64,
    /// Time of the last line.
    updated: Instant,
    /// Number of lines left out since one was logged, and the last of them.
    left_out: u64,
    last: Option<Line>,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { tokens: BURST, updated: now, left_out: 0, last: None }
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
        self.last = None;
        Some(std::mem::take(&mut self.left_out))
    }

    /// Takes the last line that was left out, if it was not followed by another one. It takes a
    /// token too, so that no more lines are logged in all.
    fn take_left_out(&mut self) -> Option<Line> {
        let line = self.last.take()?;
        let before = std::mem::take(&mut self.left_out).checked_sub(1)?;
        self.tokens -= 1.0;
        Some(line.and_more(before))
    }
}

/// Which lines were left out: of warnings and information those that repeat too often. Errors, the
/// lines of level debug and those of programs are always logged.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<(&'static str, u32), Bucket>>);

impl Repeats {
    /// Returns the buckets by file and line.
    fn buckets(&self) -> MutexGuard<'_, HashMap<(&'static str, u32), Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the line of `record`, and in it how many were left out before it; `Option::None` if
    /// it is left out too.
    pub fn admit(&self, record: &Record<'_>) -> Option<Line> {
        let is_limited = matches!(record.level(), Level::Warn | Level::Info)
            && record.target() != PROGRAM_TARGET;
        let (true, Some(file), Some(line)) = (is_limited, record.file_static(), record.line())
        else {
            return Some(Line::of(record));
        };
        let (place, now) = ((file, line), Instant::now());
        let admitted = self.buckets().entry(place).or_insert_with(|| Bucket::new(now)).admit(now);
        // Put into words while no other thread waits for that.
        let line = Line::of(record);
        match (admitted, self.buckets().get_mut(&place)) {
            (Some(left_out), _) => return Some(line.and_more(left_out)),
            (None, Some(bucket)) => bucket.last = Some(line),
            (None, None) => (),
        }
        None
    }

    /// Takes the last line of each place that was left out.
    pub fn take_left_out(&self) -> Vec<Line> {
        self.buckets().values_mut().filter_map(Bucket::take_left_out).collect()
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

    #[test]
    fn the_last_line_that_was_left_out_is_told_once_unless_another_one_was() {
        let repeats = Repeats::default();
        let mut admitted = Vec::new();
        let mut log = |text: &str, numbers: std::ops::Range<u32>| {
            for number in numbers {
                let args = format_args!("{text} {number}").to_string();
                let mut record = Record::builder();
                record.level(Level::Info).file_static(Some("x.rs")).line(Some(1));
                let line = repeats.admit(&record.args(format_args!("{args}")).build());
                admitted.extend(line.map(|line| line.text));
            }
        };
        log("line", 0..13);
        assert_eq!(admitted.len(), 10);
        let told = |repeats: &Repeats| -> Vec<String> {
            repeats.take_left_out().into_iter().map(|line| line.text).collect()
        };
        assert_eq!(told(&repeats), ["line 12 (and 2 more like it)"]);
        assert_eq!(told(&repeats), [""; 0]);
    }
}
