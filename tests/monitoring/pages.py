"""The page, as a browser shows it: in each state, narrow and wide, by day and by night."""

import contextlib
import itertools
import signal

from browser import browser
from services import Programs, serve

WINDOWS = list(itertools.product([360, 1920], ["light", "dark"]))

# The boxes that do not show all that is in them.
CUT = """Array.from(document.querySelectorAll("section")).filter(it => it.scrollWidth > it.clientWidth)
    .map(it => it.innerText)"""


def idle(programs):
    return serve(programs.repd)


@contextlib.contextmanager
def loaded(programs):
    with (
        serve(programs.sleepy, "--workers", 8) as service,
        programs.bench(service.endpoint, "1", "--clients", 20, "--duration", 300),
        programs.bench(service.endpoint, "fail", "--open-loop", 20, "--clients", 2, "--duration", 300),
    ):
        service.wait_until(lambda shown: len(shown["history"]["p99_seconds"]) > 1)
        yield service


@contextlib.contextmanager
def draining(programs):
    with (
        serve(programs.sleepy, "--drain", 300, "--timeout", 300) as service,
        programs.bench(service.endpoint, "300000", "--clients", 1, "--timeout", 300),
    ):
        service.wait_until(lambda shown: shown["requests"]["in_flight"] == 1)
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(lambda shown: shown["state"] == "draining")
        yield service


# What is begun for it, and the colour and words of the headline.
STATES = {
    "idle": (idle, ["good", "Serving"]),
    "loaded": (loaded, ["good", "Serving"]),
    "draining": (draining, ["part", "Draining"]),
    "upstream-down": (Programs.with_upstreams, ["part", "Serving"]),
    "not-ready": (Programs.without_workers, ["bad", "Not ready"]),
    "program": (Programs.with_program, ["good", "Serving"]),
    "keys": (Programs.with_keys, ["good", "Serving"]),
}


def is_fit(tab, service, headline):
    """Looks whether a page has its headline, is no wider than its window, and asks for nothing else."""
    found = tab.value("[document.querySelector('header').className, document.querySelector('h1').textContent]")
    assert found == headline, found
    width, window = tab.value("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= window, f"the page has {width} px in a window of {window}"
    assert not (cut := tab.value(CUT)), f"wider than their boxes in a window of {window} px: {cut}"
    assert set(tab.asked) == {f"http://{service.status}/"}, tab.asked
    assert not tab.wrong, tab.wrong


def check(programs, screenshots):
    with browser() as chromium:
        for name, (state, headline) in STATES.items():
            with state(programs) as service:
                for width, scheme in WINDOWS:
                    with chromium.tab() as tab:
                        tab.open(f"http://{service.status}/", width, scheme)
                        is_fit(tab, service, headline)
                        if screenshots:
                            (screenshots / f"{name}-{width}-{scheme}.png").write_bytes(tab.picture())
            print(f"page: {name}")
        with idle(programs) as service, chromium.tab() as tab:
            tab.open(f"http://{service.status}/", 1200, "light")
            tab.wait_for_load(3)
            is_fit(tab, service, STATES["idle"][1])
            print(f"page: it was loaded {tab.loads} times")
