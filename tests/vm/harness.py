"""What the tests of the packages share: their own life, the client `ask`, and virtual machines with one forwarded
port on 127.0.0.1 and no other way in or out."""

import argparse
import contextlib
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

# Seconds, for one wait and for a whole script. An emulated machine on a busy host: only what hangs takes as long.
LIMIT = 300
LIFE = 1800


def has_zmq(python):
    return subprocess.run([python, "-c", "import zmq"], capture_output=True).returncode == 0


# With another Python than Debian's in front, that one may have pyzmq too.
PYTHON = sys.executable if has_zmq(sys.executable) else "/usr/bin/python3"
ASK = [PYTHON, str(pathlib.Path(__file__).resolve().parent / "ask.py")]


def arguments(about, tools, **names):
    """Reads a script's arguments, looks whether its tools are there (command: Debian's package), and bounds its life."""

    def end(number, _):
        print(f"ended by {signal.Signals(number).name}", file=sys.stderr)
        sys.exit(128 + number)

    # By an exception, so that whatever was begun is ended.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(LIFE)
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, options in names.items():
        parser.add_argument(name, **options)
    given = parser.parse_args()
    missing = [package for tool, package in tools.items() if not shutil.which(tool)]
    missing += [] if has_zmq(PYTHON) else ["python3-zmq"]
    if missing:
        sys.exit(f"error: tools are missing; apt-get install {' '.join(missing)}")
    return given


def a_file(text):
    """A path that an argument gives."""
    path = pathlib.Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path


def wait_until(fact, limit=LIMIT):
    """What the fact is once it is there."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := fact():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"not within {limit} s: {fact.__name__}")


@contextlib.contextmanager
def running(command, **options):
    """A process that does not outlive what it is for."""
    process = subprocess.Popen(list(map(str, command)), text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asking(endpoint, *options):
    return running([*ASK, endpoint, *options], stdout=subprocess.PIPE)


def answers(endpoint, requests, *options):
    """Whether each of so many requests has its reply."""
    with asking(endpoint, "--requests", requests, *options) as ask:
        said = json.loads(ask.communicate(timeout=LIMIT)[0])
    print(said, flush=True)
    return said == {"replies": requests, "refused": 0, "wrong": 0, "lost": 0}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accelerator(kernel):
    """KVM, if this kernel gets so far under it that it misses its root; else emulation. A /dev/kvm that opens
    is no proof: guests may hang in it."""
    if pathlib.Path("/dev/kvm").exists():
        probe = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-display", "none"]
        probe += ["-no-reboot", "-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1"]
        try:
            done = subprocess.run(probe, timeout=10, stdin=subprocess.DEVNULL, capture_output=True)
            if b"Unable to mount root" in done.stdout:
                return ["-accel", "kvm", "-cpu", "host"]
        except subprocess.TimeoutExpired:
            pass
    print("no KVM that works here: the machine is emulated")
    return ["-accel", "tcg,thread=multi"]


class Qemu:
    """A machine that runs. What it says on its serial console is in console.log; what it hears there is typed."""

    def __init__(self, process, console, endpoint):
        self.process, self.console, self.endpoint = process, console, endpoint

    def types(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def said(self):
        return self.console.read_text(errors="replace")

    def runs(self):
        return self.process.poll() is None

    def ends(self):
        assert self.process.wait(LIMIT) == 0, "qemu has failed"


@contextlib.contextmanager
def machine(command, folder):
    port, console = free_port(), folder / "console.log"
    network = f"user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:5555"
    command = [*command, "-netdev", network, "-device", "virtio-net-pci,netdev=network,romfile="]
    command += ["-display", "none", "-no-reboot"]
    command += ["-chardev", f"stdio,id=console,signal=off,logfile={console}", "-serial", "chardev:console"]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        qemu = Qemu(process, console, f"tcp://127.0.0.1:{port}")
        try:
            yield qemu
        except Exception:
            if console.exists():
                print("the console's last lines:", *qemu.said().splitlines()[-40:], sep="\n")
            raise
