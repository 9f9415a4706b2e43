"""Chromium without a window, spoken to over the pipe of its DevTools protocol
(https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading

import harness

# What a page does that is told of: what it asks for, what goes wrong in it, and what its policy forbids.
DOMAINS = ["Audits", "Log", "Network", "Page", "Runtime"]


class Browser:
    def __init__(self, to, of):
        self.to, self.of = to, of
        self.count = 0
        self.told = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        """Messages are JSON, and end with a NUL."""
        rest = b""
        while some := os.read(self.of, 1 << 16):
            *messages, rest = (rest + some).split(b"\0")
            for message in messages:
                self.told.put(json.loads(message))

    def call(self, method, session=None, on_event=lambda event: None, **parameters):
        """What the method returns. Events that come before are told."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            told = self.told.get(timeout=harness.LIMIT)
            if told.get("id") == self.count:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            on_event(told)

    @contextlib.contextmanager
    def tab(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in DOMAINS:
            tab.call(f"{domain}.enable")
        yield tab
        self.call("Target.closeTarget", targetId=target)


class Tab:
    """A page, and what it did: the addresses that it asked for, how often it was loaded, and what was wrong."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.asked, self.loads, self.wrong = [], 0, []

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, self.on_event, **parameters)

    def on_event(self, event):
        if event.get("sessionId") != self.session:
            return
        told = event["params"]
        match event["method"]:
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Page.loadEventFired":
                self.loads += 1
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.wrong.append(told["entry"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Network.loadingFailed" | "Audits.issueAdded":
                self.wrong.append(event)

    def wait_for_load(self, number):
        while self.loads < number:
            self.on_event(self.browser.told.get(timeout=harness.LIMIT))

    def open(self, address, width, scheme):
        """Loads it in a window of that width, by day (light) or by night (dark)."""
        size = {"width": width, "height": 900 if width > 600 else 740, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=width < 600, **size)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        media = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[media])
        before = self.loads
        failed = self.call("Page.navigate", url=address).get("errorText")
        assert not failed, f"{address}: {failed}"
        self.wait_for_load(before + 1)

    def value(self, expression):
        """What JavaScript makes of it, which the page's own policy does not forbid to DevTools."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    def picture(self):
        """All of the page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextlib.contextmanager
def browser():
    (its_input, to), (of, its_output) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
        # It reads descriptor 3 and writes 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{its_input} 4>&{its_output}', "bash", *command]
        with harness.running(shell, pass_fds=[its_input, its_output], stderr=subprocess.DEVNULL) as process:
            os.close(its_input)
            os.close(its_output)
            chromium = Browser(to, of)
            yield chromium
            chromium.call("Browser.close")
            process.wait(harness.LIMIT)
