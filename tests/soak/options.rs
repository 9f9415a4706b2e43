//! The command line of the soak.

use std::time::Duration;

/// How long a soak is that nobody has asked for: all there is happens once.
const SHORT: Duration = Duration::from_secs(5);

/// Options of Rust's test harness that have a value.
const WITH_VALUE: [&str; 6] =
    ["--test-threads", "--skip", "--format", "--color", "--logfile", "-Z"];

/// Reads the arguments: `--minutes N`, and what `cargo test` gives to every test program. Returns how
/// long the soak is to be, or `None` if others than this test are wanted.
///
/// # Errors
/// What is wrong, and what to give instead.
pub fn time(arguments: impl IntoIterator<Item = String>) -> Result<Option<Duration>, String> {
    let mut arguments = arguments.into_iter();
    let (mut time, mut is_wanted, mut filters) = (SHORT, true, Vec::new());
    while let Some(argument) = arguments.next() {
        match &argument[..] {
            "--minutes" => time = minutes(&arguments.next().unwrap_or_default())?,
            "--list" | "--ignored" => is_wanted = false,
            "--skip" => is_wanted &= !arguments.next().is_some_and(|text| "soak".contains(&*text)),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => (),
            _ => filters.push(argument),
        }
    }
    is_wanted &= filters.is_empty() || filters.iter().any(|filter| "soak".contains(&**filter));
    Ok(is_wanted.then_some(time))
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: Option<f64> = text.parse().ok();
    let minutes = minutes.filter(|minutes| (0.01..=100_000.0).contains(minutes));
    let time = minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes));
    time.ok_or_else(|| format!("cannot use --minutes {text:?}: give a number, such as 60"))
}
