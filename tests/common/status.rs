//! What a service shows of itself over HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::{LIMIT, Process, until};

/// The status endpoint of a service.
pub struct Status(pub String);

impl Status {
    /// Returns that of a service whose log has told of it.
    pub fn of(process: &Process) -> Status {
        let mut lines = process.log.iter();
        let endpoint = lines.find_map(|line| line.split("status at ").nth(1));
        Status(endpoint.expect("a line of the log").into())
    }

    /// Sends these bytes, and returns all that is answered.
    pub fn send(&self, bytes: &[u8]) -> String {
        fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
            let mut answer = Vec::new();
            // It may be refused before all is read.
            let _ = stream.write_all(bytes);
            let _ = stream.read_to_end(&mut answer);
            answer
        }
        let answer = match self.0.split_once("://").unwrap() {
            ("ipc", path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                exchange(stream, bytes)
            }
            (_, address) => exchange(connect(address), bytes),
        };
        String::from_utf8(answer).unwrap()
    }

    /// Returns the status code of what is at `path`, its head, and its body.
    pub fn get(&self, path: &str) -> (u16, String, String) {
        let answer = self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.into(), body.into())
    }

    pub fn json(&self) -> Value {
        let (code, _, body) = self.get("/status.json");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Returns the samples of `/metrics`, each with its labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let lines = self.get("/metrics").2;
        let samples = lines.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_string(), value.parse().unwrap())
        };
        samples.map(sample).collect()
    }

    /// Waits until `/status.json` shows that.
    pub fn until(&self, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
        let mut shown = Value::Null;
        until(what, || {
            shown = self.json();
            fact(&shown)
        });
        shown
    }
}

/// Connects to a status endpoint over TCP.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}
