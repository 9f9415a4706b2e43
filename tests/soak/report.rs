//! What is printed at the end.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::account::Totals;
use super::counters::Counters;
use super::figures::{
    MAX_GROWTH, MAX_GROWTH_WITH_STRANGERS, MIB, Sample, descriptor_slope, memory_slope,
};

/// A service after the soak.
pub struct Ended {
    pub name: &'static str,
    pub totals: Totals,
    /// What it says that it has done, if it has ended well.
    pub counters: Option<Counters>,
    pub has_strangers: bool,
    /// Samples of a service that was not started again.
    pub samples: Vec<Sample>,
}

impl Ended {
    /// Returns what was wrong, a line each.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.totals.wrong();
        if let Some(counters) = &self.counters {
            wrong.extend(counters.disagreements(&self.totals, self.has_strangers));
        }
        let most = if self.has_strangers { MAX_GROWTH_WITH_STRANGERS } else { MAX_GROWTH };
        let slope = memory_slope(&self.samples);
        if let Some(slope) = slope.filter(|slope| slope.rises_by_more_than(most)) {
            wrong.push(format!(
                "its memory grows: {:.2} MiB an hour (standard error {:.2}), {:.2} MiB so far",
                slope.per_hour / MIB,
                slope.error / MIB,
                slope.growth / MIB
            ));
        }
        wrong.into_iter().map(|what| format!("{}: {what}", self.name)).collect()
    }
}

/// Prints what was asked for and what became of it, what has happened meanwhile, and how much memory
/// it took. So many requests were handled twice.
pub fn print(services: &[Ended], twice: u64, time: Duration, events: &BTreeMap<&str, u64>) {
    let sum = |of: fn(&Totals) -> u64| services.iter().map(|it| of(&it.totals)).sum::<u64>();
    println!("soak of {:.1} minutes", time.as_secs_f64() / 60.0);
    println!(
        "requests: {}, replies: {}, errors that were expected: {}, of clients that left: {}",
        sum(|totals| totals.asked),
        sum(|totals| totals.replies),
        sum(|totals| totals.errors.values().sum()),
        sum(|totals| totals.left)
    );
    println!(
        "unanswered: {}, swapped: {}, replied to twice: {}, handled twice: {twice}, wrong: {}",
        sum(|totals| totals.unanswered),
        sum(|totals| totals.swapped),
        sum(|totals| totals.repeated),
        sum(|totals| totals.refused)
    );
    println!("meanwhile: {}\n", counts(events.iter()));
    println!(
        "{:<10}{:>11}{:>8}{:>11}{:>8}  {:<24}{:<16}{:<23}errors",
        "service", "requests", "per s", "replies", "left", "memory, MiB", "MiB/h", "descriptors"
    );
    services.iter().for_each(|service| println!("{}", row(service, time)));
}

fn row(service: &Ended, time: Duration) -> String {
    let Totals { asked, replies, left, .. } = &service.totals;
    let (name, rate) = (service.name, *asked as f64 / time.as_secs_f64());
    let [memory, slope, descriptors] = figures(&service.samples);
    let mut others = vec![counts(&service.totals.errors)];
    if let Some(Counters { retried, hedged, .. }) = &service.counters {
        let counted = [("retried", retried), ("hedged", hedged)];
        others.push(counts(counted.into_iter().filter(|(_, count)| **count > 0)));
    }
    others.retain(|text| !text.is_empty());
    let errors = others.join(", ");
    format!(
        "{name:<10}{asked:>11}{rate:>8.0}{replies:>11}{left:>8}  {memory:<24}{slope:<16}\
         {descriptors:<23}{errors}"
    )
}

fn counts<T: Display>(counts: impl IntoIterator<Item = (T, impl Display)>) -> String {
    let counts = counts.into_iter().map(|(what, count)| format!("{what}: {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Returns the first, last and greatest memory, its slope, and the same of descriptors.
fn figures(samples: &[Sample]) -> [String; 3] {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Default::default();
    };
    let mib = |bytes: u64| bytes as f64 / MIB;
    let most = samples.iter().map(|sample| sample.memory).max().unwrap_or_default();
    let memory = [first.memory, last.memory, most].map(mib);
    let memory = format!("{:.1} to {:.1}, most {:.1}", memory[0], memory[1], memory[2]);
    let slope = memory_slope(samples).map_or("too short".into(), |slope| {
        format!("{:+.2} ± {:.2}", slope.per_hour / MIB, slope.error / MIB)
    });
    let per_hour = descriptor_slope(samples).map_or(0.0, |slope| slope.per_hour);
    let descriptors = format!("{} to {}, {per_hour:+.1}/h", first.descriptors, last.descriptors);
    [memory, slope, descriptors]
}
