//! What a process that has started the log knows of its lines. One test: there is one log in a process.

use std::time::{Duration, SystemTime};

use repd::logging::{self, Level, LevelFilter, Target};

#[test]
fn lines_are_counted_by_level_and_the_last_warnings_are_kept() {
    logging::start(Target::Stderr, LevelFilter::Info).unwrap();
    assert!(logging::start(Target::Json, LevelFilter::Info).is_err(), "there is one already");
    for number in 0..15 {
        log::error!("error {number}");
        // From one place: ten are logged, and the others are left out.
        log::warn!("warning {number}");
        log::info!("hello");
        log::debug!("below the level");
    }
    log::warn!(target: "program", "worker 1's program says: hello");
    let counts = logging::counts();
    assert_eq!((counts.errors, counts.warnings, counts.info, counts.debug), (15, 16, 15, 0));
    let last = logging::last_warnings();
    let texts: Vec<&str> = last.iter().map(|it| &it.text[..]).collect();
    let both = |number| [format!("error {number}"), format!("warning {number}")];
    let all = (0..10).flat_map(both).chain((10..15).map(|number| format!("error {number}")));
    assert_eq!(texts, all.skip(5).collect::<Vec<_>>());
    assert!(last.iter().all(|it| matches!(it.level, Level::Error | Level::Warn)));
    let age = SystemTime::now().duration_since(last[0].time);
    assert!(age.is_ok_and(|age| age < Duration::from_secs(600)));
}
