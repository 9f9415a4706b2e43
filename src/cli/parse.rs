//! Parses the values of options, and says what to give instead of a wrong one.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::auth::{PublicKey, read_public};
use crate::config::{
    BACKLOG_RANGE, CALL_RETRIES_RANGE, CLIENT_OUTSTANDING_RANGE, CLIENT_RATE_RANGE, CLIENTS_RANGE,
    DRAIN_RANGE, FRAMES_RANGE, HEARTBEAT_RANGE, IO_THREADS_RANGE, MAX_CLIENTS_RANGE, MEMORY_RANGE,
    MIN_TIME, OUTSTANDING_RANGE, PIPELINE_RANGE, REQUESTS_RANGE, RETRIES_RANGE, SIZE_RANGE,
    TIMEOUT_RANGE, WORKERS_RANGE, number_hint, seconds_hint,
};

/// Parses a whole number in decimal digits, without a sign.
fn number<N: Display + FromStr + PartialOrd>(
    text: &str,
    range: RangeInclusive<N>,
) -> Result<N, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| number_hint(&range))
}

/// Parses a time in seconds, with or without a fraction, or with a unit: `ms`, `s`, `m` or `h`.
fn seconds(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit =
        units.into_iter().find_map(|(unit, length)| Some((text.strip_suffix(unit)?, length)));
    let (number, unit) = with_unit.unwrap_or((text, 1.0));
    let seconds: Option<f64> = number.parse().ok().map(|number: f64| number * unit);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // A tiny time such as 0.0000001 is a mistake, not a way to write 0.
    let time = time.filter(|time| *time >= MIN_TIME || seconds == Some(0.0));
    time.filter(|time| range.contains(time)).ok_or_else(|| seconds_hint(&range))
}

pub fn workers(text: &str) -> Result<usize, String> {
    number(text, WORKERS_RANGE)
}

pub fn max_frames(text: &str) -> Result<usize, String> {
    number(text, FRAMES_RANGE)
}

pub fn io_threads(text: &str) -> Result<usize, String> {
    number(text, IO_THREADS_RANGE)
}

pub fn backlog(text: &str) -> Result<usize, String> {
    number(text, BACKLOG_RANGE)
}

pub fn max_outstanding(text: &str) -> Result<usize, String> {
    number(text, OUTSTANDING_RANGE)
}

pub fn max_clients(text: &str) -> Result<usize, String> {
    number(text, MAX_CLIENTS_RANGE)
}

pub fn client_outstanding(text: &str) -> Result<usize, String> {
    number(text, CLIENT_OUTSTANDING_RANGE)
}

pub fn client_rate(text: &str) -> Result<usize, String> {
    number(text, CLIENT_RATE_RANGE)
}

pub fn retries(text: &str) -> Result<usize, String> {
    number(text, RETRIES_RANGE)
}

pub fn call_retries(text: &str) -> Result<usize, String> {
    number(text, CALL_RETRIES_RANGE)
}

pub fn clients(text: &str) -> Result<usize, String> {
    number(text, CLIENTS_RANGE)
}

pub fn pipeline(text: &str) -> Result<usize, String> {
    number(text, PIPELINE_RANGE)
}

/// Parses a public key, or the path of a file with it.
pub fn server_key(text: &str) -> Result<PublicKey, String> {
    let path = Path::new(text);
    match text.parse() {
        Ok(key) => Ok(key),
        Err(error) if !path.exists() => Err(format!("{error}, and there is no such file")),
        Err(_) => read_public(path).map_err(|error| format!("{error:#}")),
    }
}

pub fn open_loop(text: &str) -> Result<usize, String> {
    number(text, CLIENT_RATE_RANGE)
}

pub fn requests(text: &str) -> Result<u64, String> {
    number(text, REQUESTS_RANGE)
}

pub fn timeout(text: &str) -> Result<Duration, String> {
    seconds(text, TIMEOUT_RANGE)
}

pub fn drain(text: &str) -> Result<Duration, String> {
    seconds(text, DRAIN_RANGE)
}

pub fn heartbeat(text: &str) -> Result<Duration, String> {
    seconds(text, HEARTBEAT_RANGE)
}

/// Parses a size in bytes, or in KiB, MiB or GiB with a `k`, an `M` or a `G` after the number.
fn bytes<N: PartialOrd + TryFrom<u64>>(text: &str, range: &RangeInclusive<N>) -> Option<N> {
    let units = [("k", 1 << 10), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let with_unit =
        units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    let number = number(digits, 0..=u64::MAX).ok()?;
    N::try_from(number.checked_mul(unit)?).ok().filter(|bytes| range.contains(bytes))
}

pub fn size(text: &str) -> Result<usize, String> {
    let hint = "give bytes from 1 to 1024M, with k for KiB or M for MiB";
    bytes(text, &SIZE_RANGE).ok_or_else(|| hint.into())
}

pub fn max_memory(text: &str) -> Result<usize, String> {
    let hint = "give bytes from 1M to 1024G, with M for MiB or G for GiB";
    let bytes = bytes(text, &MEMORY_RANGE).ok_or(hint)?;
    // More than there are addresses is no bound.
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_MESSAGE_SIZE;

    #[test]
    fn numbers_are_taken_within_their_range_and_nothing_else_is() {
        assert_eq!(workers("0"), Ok(0));
        assert_eq!(workers("500"), Ok(500));
        for wrong in ["", "501", "-1", "+1", "1.5", "nan", "99999999999999999999999", " 1", "0x1"] {
            assert!(workers(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn seconds_may_be_fractions_but_must_be_a_time() {
        assert_eq!(timeout("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(drain("0"), Ok(Duration::ZERO));
        for (text, milliseconds) in
            [("500ms", 500), ("5s", 5000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(timeout(text), Ok(Duration::from_millis(milliseconds)));
        }
        for wrong in ["0", "-1", "nan", "inf", "1e300", "", "s", "5 s", "5x", "0.0000001", "86401"]
        {
            assert!(timeout(wrong).is_err(), "{wrong:?}");
        }
        assert!(drain("0.0001").is_err() && drain("-0.0001").is_err());
        assert!(heartbeat("3600").is_ok() && heartbeat("3601").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("1M"), Ok(MAX_MESSAGE_SIZE));
        for wrong in ["", "0", "k", "1m", "1025M", "-1", "1.5M", "18446744073709551615k", "1 M"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_goes_beyond_32_bits_is_taken_everywhere() {
        assert_eq!(requests("1000000000000"), Ok(1_000_000_000_000));
        let all = usize::try_from(1_u64 << 40).unwrap_or(usize::MAX);
        assert_eq!([max_memory("1024G"), max_memory("1048576M")], [Ok(all), Ok(all)]);
        for wrong in ["1025G", "4294967297M", "17179869185G"] {
            assert!(max_memory(wrong).is_err(), "{wrong:?}");
        }
    }
}
