//! Numbers as people read them.

use std::time::Duration;

/// Returns a time with one unit for short ones, and two from a minute on: `350 µs`, `1.25 s`, `3 d 4 h`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = time.as_secs();
    let two = |value: u64, unit: &str, rest: u64, part: &str| {
        if rest == 0 { format!("{value} {unit}") } else { format!("{value} {unit} {rest} {part}") }
    };
    match whole {
        0 if seconds < 0.001 => format!("{} µs", short(seconds * 1e6)),
        0 => format!("{} ms", short(seconds * 1e3)),
        1..60 => format!("{} s", short(seconds)),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86400 => two(whole / 3600, "h", whole / 60 % 60, "min"),
        _ => two(whole / 86400, "d", whole / 3600 % 24, "h"),
    }
}

/// Returns a number with three digits at least, and no more behind the point than these need.
pub(crate) fn short(value: f64) -> String {
    let digits = if value >= 99.95 { 0 } else { usize::from(value < 9.995) + 1 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Returns a number with its thousands apart: `1 234 567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            // A narrow space that does not break the line.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Returns a number of bytes: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (value.max(1).ilog2() as usize / 10).min(units.len() - 1);
    format!("{} {}", short(value as f64 / (1_u64 << (10 * unit)) as f64), units[unit])
}

/// Returns these in the order of what `rank` makes of them, the highest first.
pub(crate) fn ranked<T>(items: &[T], rank: impl Fn(&T) -> [f64; 2]) -> Vec<&T> {
    let ranks = items.iter().map(rank).zip(0..).collect();
    places(ranks).into_iter().map(|place| &items[place]).collect()
}

/// Returns the places of the ranks, the highest first: apart from [`ranked`], so that it is compiled
/// once.
fn places(mut ranks: Vec<([f64; 2], usize)>) -> Vec<usize> {
    ranks.sort_unstable_by(|([a, b], place), ([c, d], other)| {
        c.total_cmp(a).then(d.total_cmp(b)).then(place.cmp(other))
    });
    ranks.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_units_that_fit() {
        for (nanoseconds, text) in [
            (0, "0 µs"),
            (1_500, "1.5 µs"),
            (350_000, "350 µs"),
            (12_340_000, "12.3 ms"),
            (999_600_000, "1000 ms"),
            (1_250_000_000, "1.25 s"),
            (60_000_000_000, "1 min"),
            (3_723_000_000_000, "1 h 2 min"),
            (273_600_000_000_000, "3 d 4 h"),
        ] {
            assert_eq!(time(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn the_highest_come_first_and_equals_stay_in_order() {
        let items = [(1.0, 'a'), (2.0, 'b'), (1.0, 'c'), (3.0, 'd')];
        let order: String = ranked(&items, |it| [it.0, 0.0]).iter().map(|it| it.1).collect();
        assert_eq!(order, "dbac");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.126, 9.996, 12.34, 99.96, 1234.5].map(short).join(" "),
            "0 0.13 10 12.3 100 1234"
        );
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!([0, 1023, 1536, 5 << 20].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5 MiB"]);
    }
}
