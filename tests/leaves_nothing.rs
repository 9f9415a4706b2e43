//! A service that has ended leaves no thread and no file descriptor. A test of its own process,
//! since it counts both.

mod common;

use common::{Client, Local, time_limit, until};
use repd::{Backend, Config, Framing, Program, Service, echo};

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn no_thread_and_no_descriptor_is_left_behind() {
    let _limit = time_limit(60);
    let served = |workers| {
        let service = Local::workers(workers, |_| echo);
        let clients: Vec<Client> = (0..10).map(|_| Client::req(&service.endpoint)).collect();
        clients.iter().for_each(|client| assert_eq!(client.ask_text("x"), "x"));
        assert!(count("task") > 3);
        assert!(service.stop().is_ok());
    };
    served(5);
    let before = (count("task"), count("fd"));
    for workers in [5, 0, 1, 16] {
        served(workers);
        // The clients' own libzmq threads end in their own time.
        until("all threads have ended", || count("task") <= before.0);
        assert_eq!(count("fd"), before.1);
    }
    // Programs, and what is elsewhere.
    let upstream = Local::workers(5, |_| echo);
    let before = (count("task"), count("fd"));
    for framing in [Framing::Lines, Framing::Once] {
        let program = Program::new(["cat"]).framing(framing);
        let service = Local::start(Config::new(Backend::program(5, program)));
        (0..20).for_each(|_| assert_eq!(Client::req(&service.endpoint).ask_text("x"), "x"));
        assert!(service.stop().is_ok());
        until("all threads have ended", || count("task") <= before.0);
        assert_eq!(count("fd"), before.1);
    }
    let backend = Backend::Upstream(vec![upstream.endpoint.parse().unwrap()]);
    let service = Local::start(Config::new(backend));
    until("it serves", || Client::req(&service.endpoint).ask(&[b"x"]) == [b"x"]);
    assert!(service.stop().is_ok());
    until("all threads have ended", || count("task") <= before.0);
    until("the other side has closed too", || count("fd") <= before.1);
    assert!(upstream.stop().is_ok());
    let in_use = Local::workers(5, |_| echo);
    let before = (count("task"), count("fd"));
    for workers in [5, 0] {
        let backend = Backend::workers(workers, |_| echo);
        let config = Config::new(backend).listen([in_use.endpoint.parse().unwrap()]);
        assert!(Service::start(&config).is_err());
        until("all threads have ended", || count("task") <= before.0);
        assert_eq!(count("fd"), before.1);
    }
}
