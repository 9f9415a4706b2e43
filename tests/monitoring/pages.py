"""The page, as a browser shows it: in each state, narrow and wide, by day and by night."""

import contextlib
import itertools
import signal

import harness
from browser import browser
from services import serve

# The boxes that do not show all that is in them.
CUT = "Array.from(document.querySelectorAll('section')).filter(it => it.scrollWidth > it.clientWidth).map(it => it.innerText)"

WINDOWS = list(itertools.product([360, 1920], ["light", "dark"]))


@contextlib.contextmanager
def idle(programs):
    with serve(programs.repd) as service:
        yield service, "Serving"


@contextlib.contextmanager
def loaded(programs):
    with (
        serve(programs.sleepy, "--workers", 8) as service,
        programs.bench(service.endpoint, "1", "--clients", 20, "--duration", 300),
        programs.bench(service.endpoint, "fail", "--open-loop", 20, "--clients", 2, "--duration", 300),
    ):
        service.wait_until(lambda shown: len(shown["history"]["p99_seconds"]) > 1)
        yield service, "Serving"


@contextlib.contextmanager
def draining(programs):
    with (
        serve(programs.sleepy, "--drain", 300, "--timeout", 300) as service,
        programs.bench(service.endpoint, "300000", "--clients", 1, "--timeout", 300),
    ):
        service.wait_until(lambda shown: shown["requests"]["in_flight"] == 1)
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(lambda shown: shown["state"] == "draining")
        yield service, "Draining"


@contextlib.contextmanager
def upstream_down(programs):
    with programs.with_upstreams() as service:
        yield service, "Serving"


@contextlib.contextmanager
def not_ready(programs):
    with programs.without_workers() as service:
        yield service, "Not ready"


@contextlib.contextmanager
def program(programs):
    with programs.with_program() as service:
        yield service, "Serving"


@contextlib.contextmanager
def keys(programs):
    with programs.with_keys() as service:
        yield service, "Serving"


STATES = [idle, loaded, draining, upstream_down, not_ready, program, keys]


def is_fit(tab, service, headline):
    """Looks whether a page has its headline, is no wider than its window, and asks for nothing else."""
    assert tab.value("document.querySelector('h1').textContent") == headline
    width, window = tab.value("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= window, f"the page has {width} px in a window of {window}"
    assert not (cut := tab.value(CUT)), f"wider than their boxes in a window of {window} px: {cut}"
    assert set(tab.asked) == {f"http://{service.status}/"}, tab.asked
    assert not tab.wrong, tab.wrong


def check(programs, screenshots):
    with browser() as chromium:
        for state in STATES:
            with state(programs) as (service, headline):
                for width, scheme in WINDOWS:
                    with chromium.tab() as tab:
                        tab.open(f"http://{service.status}/", width, scheme)
                        is_fit(tab, service, headline)
                        if screenshots:
                            name = f"{state.__name__}-{width}-{scheme}.png"
                            (screenshots / name).write_bytes(tab.picture())
            print(f"page: {state.__name__}")
        with idle(programs) as (service, headline), chromium.tab() as tab:
            tab.open(f"http://{service.status}/", 1200, "light")
            tab.wait_for_load(3)
            is_fit(tab, service, headline)
            print(f"page: it was loaded {tab.loads} times")
