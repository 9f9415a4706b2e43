"""Services of each kind with a status endpoint, and what loads them."""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import urllib.request

import harness


class Service:
    """One that runs, at `endpoint`; what it shows of itself is at `status`."""

    def __init__(self, process, said):
        self.process = process
        self.endpoint = re.search(r"listening on (\S+)", said)[1]
        self.status = re.search(r"status at tcp://(\S+)", said)[1]
        workers = re.search(r"workers connect to (\S+)", said)
        self.backend = workers and workers[1]

    def get(self, path, **headers):
        with urllib.request.urlopen(urllib.request.Request(f"http://{self.status}{path}", headers=headers)) as answer:
            return answer.read().decode()

    def shown(self):
        return json.loads(self.get("/status.json"))

    def wait_until(self, fact):
        return harness.wait_until(lambda: fact(self.shown()))


@contextlib.contextmanager
def serve(program, *options):
    """What serves with that program: repd, or an example with its command line."""
    command = [program, "serve", "--listen", "tcp://127.0.0.1:*", "--status", "tcp://127.0.0.1:*", *options]
    with harness.running(command, stderr=subprocess.PIPE) as process:
        said = ""
        while "status at" not in said or "listening on" not in said:
            line = process.stderr.readline()
            assert line, f"it does not listen: {said}"
            said += line
        yield Service(process, said)


@contextlib.contextmanager
def nobody():
    """An address where nothing listens, nor will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class Programs:
    """What was built, and where it keeps its files."""

    def __init__(self, repd, folder):
        self.repd, self.folder = repd, pathlib.Path(folder)
        # Its requests say how many milliseconds their replies take; what is no number gets a 400.
        self.sleepy = repd.parent / "examples/sleepy"
        assert self.sleepy.is_file(), "build the examples first: cargo build --examples"

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def bench(self, endpoint, body, *options):
        """Begins a load of requests with that body."""
        body = self.file(f"body-{body}", body)
        command = [self.repd, "bench", endpoint, "--warmup", "0", "--json", "--size", body, *options]
        return harness.running(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def call(self, endpoint, *options):
        subprocess.run([self.repd, "call", endpoint, *options], timeout=harness.LIMIT, capture_output=True)

    def make_keys(self, name):
        """A pair of keys: what a client is told of them, and their line for a list."""
        made = subprocess.run([self.repd, "keygen", self.folder / name], check=True, capture_output=True, text=True)
        return made.stdout

    def keys_of(self, name):
        secret = self.folder / f"{name}.key_secret"
        return ["--server-key", self.folder / "service.key", "--key", secret]

    @contextlib.contextmanager
    def with_keys(self):
        """A service with keys, and two clients that are listed."""
        if not (self.folder / "clients").exists():
            self.make_keys("service")
            self.file("clients", self.make_keys("pump-7") + self.make_keys("pump-8"))
        key = self.folder / "service.key_secret"
        with serve(self.repd, "--key", key, "--clients", self.folder / "clients") as service:
            for name in ["pump-7", "pump-7", "pump-8"]:
                self.call(service.endpoint, *self.keys_of(name), "hello")
            yield service

    @contextlib.contextmanager
    def with_program(self):
        """A service whose program fails at once when it is asked for that."""
        program = 'while read -r l; do [ "$l" != fail ] || exit 1; echo "$l"; done'
        with serve(self.repd, "--workers", 3, "--framing", "lines", "--", "sh", "-c", program) as service:
            for body in ["a", "fail", "b"]:
                self.call(service.endpoint, body)
            yield service

    @contextlib.contextmanager
    def with_upstreams(self):
        """A service with two upstreams, of which one is down."""
        with nobody() as address, serve(self.sleepy) as upstream:
            upstreams = ["--upstream", upstream.endpoint, "--upstream", f"tcp://{address}"]
            with serve(self.repd, *upstreams) as service:
                service.wait_until(lambda shown: shown["upstreams"][0]["state"] == "idle")
                for body in ["0", "1", "fail"]:
                    self.call(service.endpoint, body)
                yield service

    @contextlib.contextmanager
    def without_workers(self):
        """A service whose workers are to connect, and have not."""
        with serve(self.repd, "--backend", "tcp://127.0.0.1:*") as service:
            service.wait_until(lambda shown: not shown["ready"])
            yield service
