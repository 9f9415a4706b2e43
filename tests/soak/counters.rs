//! What a service says that it has done, compared with what its clients say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::account::Totals;

/// The counters of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    pub requests: u64,
    pub replies: u64,
    /// Error replies by code.
    pub errors: BTreeMap<u16, u64>,
    pub withdrawn: u64,
    /// Requests that were retried, and hedged.
    pub retried: u64,
    pub hedged: u64,
}

impl Counters {
    /// Reads the last line of a log.
    pub fn of_line(line: &str) -> Option<Counters> {
        let mut counters = Counters::default();
        for part in line.split("stopped: ").nth(1)?.split(", ") {
            // As in "of these, won: 2".
            let Some((name, count)) = part.split_once(": ") else { continue };
            let count: u64 = count.parse().ok()?;
            match name {
                "requests" => counters.requests = count,
                "replies" => counters.replies = count,
                "withdrawn" => counters.withdrawn = count,
                "retried" => counters.retried = count,
                "hedged" => counters.hedged = count,
                _ => {
                    if let Ok(code) = name.parse() {
                        counters.errors.insert(code, count);
                    }
                }
            }
        }
        Some(counters)
    }

    /// Adds those of another run of the service.
    pub fn add(&mut self, other: &Counters) {
        self.requests += other.requests;
        self.replies += other.replies;
        self.withdrawn += other.withdrawn;
        self.retried += other.retried;
        self.hedged += other.hedged;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }

    /// Returns what does not agree, a line each: among these counters, and with what the clients
    /// say. Of a client that has left, a request may have come or not, and have any outcome. If
    /// `has_strangers`, others have asked too.
    pub fn disagreements(&self, totals: &Totals, has_strangers: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let answered = self.replies + self.errors.values().sum::<u64>();
        if self.requests != answered + self.withdrawn {
            wrong.push(format!("the service's counters do not add up: {self:?}"));
        }
        let mut compare = |what: &str, told: u64, least: u64| {
            let most = if has_strangers { u64::MAX } else { least + totals.left };
            if !(least..=most).contains(&told) {
                let left = totals.left;
                wrong.push(format!(
                    "{what}: the service counts {told}, its clients {least}, and {left} who left"
                ));
            }
        };
        compare("requests", self.requests, totals.asked - totals.left);
        compare("replies", self.replies, totals.replies);
        for code in self.errors.keys().chain(totals.errors.keys()) {
            let count = |errors: &BTreeMap<u16, u64>| errors.get(code).copied().unwrap_or(0);
            compare(&code.to_string(), count(&self.errors), count(&totals.errors));
        }
        wrong
    }
}

/// Returns an error if `/status.json` does not add up: each request is answered, withdrawn or in
/// flight at any time.
pub fn check(json: &Value) -> Result<(), String> {
    let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let (requests, replies) = (&json["requests"], &json["replies"]);
    let errors = replies["errors"].as_object();
    let errors: u64 = errors.into_iter().flat_map(|errors| errors.values()).map(number).sum();
    let answered = number(&replies["ok"]) + errors + number(&requests["withdrawn"]);
    if number(&requests["total"]) == answered + number(&requests["in_flight"]) {
        return Ok(());
    }
    Err(format!("/status.json does not add up: {requests}, {replies}"))
}
