//! Which page is at which path.

use std::sync::Arc;
use std::time::Instant;

use super::connection::Response;
use super::http::{Refused, Request, Status, head};
use super::observer::Observer;
use super::report::{Report, State};
use super::{json, metrics, page};

/// The type of a page, by which it is known: no two have the same.
type MediaType = &'static str;

const TEXT: MediaType = "text/plain; charset=utf-8";
const HTML: MediaType = "text/html; charset=utf-8";
const JSON: MediaType = "application/json";

/// The pages, each made once of what is told at a time, however many ask.
pub(super) struct Views {
    observer: Observer,
    /// What the pages were made of: [`Observer::update`].
    number: u64,
    made: Vec<(MediaType, Arc<[u8]>)>,
}

impl Views {
    pub fn new(observer: Observer) -> Views {
        Views { observer, number: 0, made: Vec::new() }
    }

    pub fn observer(&mut self) -> &mut Observer {
        &mut self.observer
    }

    /// Answers a request.
    pub fn respond(&mut self, request: Result<Request, Refused>) -> Response {
        let request = match request {
            Ok(request) => request,
            Err(Refused(status)) => return plain(status, status.text(), false),
        };
        let (status, media_type, body) = match request.path.as_str() {
            "/" => self.view(HTML, page::page),
            "/status.json" => self.view(JSON, json::text),
            "/metrics" if request.accept.contains(metrics::OPEN_METRICS) => {
                self.view(metrics::OPEN_METRICS_TYPE, metrics::open_metrics)
            }
            "/metrics" => self.view(metrics::TEXT_TYPE, metrics::text),
            "/healthz" => self.answer(State::is_healthy),
            "/readyz" => self.answer(State::is_ready),
            _ => return plain(Status::NotFound, "there is nothing here", request.is_head),
        };
        response(status, media_type, body, request.is_head)
    }

    /// Returns the page of that type: what `make` makes of the service as it is now.
    fn view(
        &mut self,
        media_type: MediaType,
        make: fn(&Report<'_>) -> String,
    ) -> (Status, MediaType, Arc<[u8]>) {
        let number = self.observer.update(Instant::now());
        if std::mem::replace(&mut self.number, number) != number {
            self.made.clear();
        }
        if let Some((_, body)) = self.made.iter().find(|(made, _)| *made == media_type) {
            return (Status::Ok, media_type, Arc::clone(body));
        }
        let Some(report) = self.observer.report() else { return untold() };
        let body = bytes(&make(&report));
        self.made.push((media_type, Arc::clone(&body)));
        (Status::Ok, media_type, body)
    }

    /// Returns whether the service is what `is_fine` asks for, and why not.
    fn answer(&mut self, is_fine: fn(State) -> bool) -> (Status, MediaType, Arc<[u8]>) {
        self.observer.update(Instant::now());
        match self.observer.state() {
            Some(state) if is_fine(state) => (Status::Ok, TEXT, bytes("ok\n")),
            Some(state) => (Status::Unavailable, TEXT, bytes(&format!("{}\n", state.reason()))),
            None => untold(),
        }
    }
}

fn untold() -> (Status, MediaType, Arc<[u8]>) {
    (Status::Unavailable, TEXT, bytes("the service has not told anything yet\n"))
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn plain(status: Status, text: &str, is_head: bool) -> Response {
    response(status, TEXT, bytes(&format!("{text}\n")), is_head)
}

fn response(status: Status, media_type: &str, body: Arc<[u8]>, is_head: bool) -> Response {
    let head = head(status, media_type, body.len(), page::POLICY);
    Response { head, body: if is_head { bytes("") } else { body } }
}
