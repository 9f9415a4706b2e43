"""The metrics, as promtool and Prometheus itself read them, and the rules and panels that are made of them."""

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import harness
from services import nobody, serve

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples/monitoring"
SECONDS = 60

# The alerts that what happens below sets off.
FIRING = {"RepdDown", "RepdErrors", "RepdNotReady", "RepdReload", "RepdUpstreamDown"}


def promtool(*arguments, stdin=None):
    done = subprocess.run(["promtool", "check", *arguments], input=stdin, capture_output=True, text=True)
    # A warning of `check metrics` is one of its errors, too.
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr


def check_format(service):
    """Looks at a scrape in both formats: promtool reads the text format, Prometheus itself asks for OpenMetrics."""
    text = service.get("/metrics")
    promtool("metrics", stdin=text)
    wanted = "application/openmetrics-text; version=1.0.0"
    assert service.get("/metrics", Accept=wanted).endswith("# EOF\n")


class Prometheus:
    def __init__(self, address):
        self.address = address

    def ask(self, expression):
        """What it makes of an expression, each with its labels."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query?{query}") as answer:
            said = json.load(answer)
        assert said["status"] == "success" and not said.get("warnings"), f"{expression}: {said}"
        return said["data"]["result"]

    def value(self, expression):
        [one] = self.ask(expression)
        return float(one["value"][1])


@contextlib.contextmanager
def prometheus(programs, targets):
    """One with the configuration of the examples, which scrapes these targets every second."""
    config = (EXAMPLES / "prometheus.yml").read_text()
    config = config.replace('["localhost:9155"]', json.dumps(targets))
    config = config.replace("alerts.yml", str(EXAMPLES / "alerts.yml"))
    config = programs.file("prometheus.yml", f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n{config}")
    promtool("config", config)
    address = f"127.0.0.1:{harness.free_port()}"
    command = ["prometheus", "--config.file", config, "--storage.tsdb.path", programs.folder / "tsdb"]
    with harness.running([*command, "--web.listen-address", address, "--log.level", "warn"]):

        def is_ready():
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready") as answer:
                return answer.status == 200

        harness.wait_until(is_ready)
        yield Prometheus(address)


def expressions():
    """Those of the dashboard's panels, by their titles."""
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$instance", ".*").replace("$__rate_interval", "15s")


def alerts():
    """The expressions of the alerts, by their names."""
    rules = re.split(r"- alert: ", (EXAMPLES / "alerts.yml").read_text())[1:]
    for rule in rules:
        expression = re.search(r"expr: (?:\|\n)?(.*?)\n +(?:for|labels):", rule, re.DOTALL)[1]
        yield rule.split()[0], " ".join(expression.split())


def check_expressions(asked):
    for title, expression in expressions():
        found = asked.ask(expression)
        assert any(one["value"][1] != "NaN" for one in found), f"{title}: no data: {expression}"
    firing = set()
    for name, expression in alerts():
        if asked.ask(expression):
            firing.add(name)
        # There is something to compare.
        expression = re.fullmatch(r"(.*) (?:>|==) [\d.]+", expression)[1]
        assert asked.ask(expression), f"{name}: no data: {expression}"
    assert firing == FIRING, firing


def check_figures(asked, service, reports):
    """Compares what Prometheus has with what the clients have counted."""
    labels = f'instance="{service.status}"'
    ended = time.time()
    harness.wait_until(lambda: asked.value(f"timestamp(repd_requests_total{{{labels}}})") > ended)
    assert all(report["missing"] == report["wrong"] == 0 for report in reports), reports
    # Before a load is one request that does not count, to see whether anybody answers.
    requests = sum(report["requests"] + 1 for report in reports)
    errors = [sum(report["errors_by_code"].values()) for report in reports]
    errors = sum(count + 1 for count in errors if count > 0)
    assert errors > 100, reports
    expected = {
        f"repd_requests_total{{{labels}}}": requests,
        f'repd_replies_total{{{labels}, code="ok"}}': requests - errors,
        f'repd_replies_total{{{labels}, code="400"}}': errors,
        f"sum(repd_replies_total{{{labels}}})": requests,
        f"repd_request_duration_seconds_count{{{labels}}}": requests,
        f'repd_request_duration_seconds_bucket{{{labels}, le="+Inf"}}': requests,
        f"repd_queue_duration_seconds_count{{{labels}}}": requests,
        f"repd_handle_duration_seconds_count{{{labels}}}": requests,
        f"repd_requests_in_flight{{{labels}}}": 0,
    }
    found = {expression: asked.value(expression) for expression in expected}
    assert found == expected, f"{found} instead of {expected}"
    print(f"prometheus: {requests} requests, {errors} of them errors, as their clients have counted")


def check(programs):
    promtool("rules", EXAMPLES / "alerts.yml")
    promtool("config", EXAMPLES / "prometheus.yml")
    with contextlib.ExitStack() as stack:
        loaded = stack.enter_context(serve(programs.sleepy, "--workers", 4))
        keyed = stack.enter_context(programs.with_keys())
        front = stack.enter_context(programs.with_upstreams())
        others = [stack.enter_context(one()) for one in [programs.with_program, programs.without_workers]]
        services = [loaded, keyed, front, *others]
        targets = [*(one.status for one in services), stack.enter_context(nobody())]
        asked = stack.enter_context(prometheus(programs, targets))
        # The counter of failures has been zero before, for Prometheus too.
        reloads = f'repd_reloads_total{{instance="{keyed.status}", result="failed"}}'
        harness.wait_until(lambda: asked.ask(reloads))
        programs.file("clients", "no list\n")
        keyed.process.send_signal(signal.SIGHUP)
        for_long = ["--duration", SECONDS]
        benches = [
            programs.bench(loaded.endpoint, "0", "--clients", 8, *for_long),
            programs.bench(loaded.endpoint, "1", "--pipeline", 3, *for_long),
            programs.bench(loaded.endpoint, "fail", "--clients", 2, *for_long),
            programs.bench(front.endpoint, "1", "--clients", 1, *for_long),
        ]
        benches = [stack.enter_context(bench) for bench in benches]
        for service in services:
            check_format(service)
        up = f"sum_over_time(up[{SECONDS // 2}s])"
        harness.wait_until(lambda: len([one for one in asked.ask(up) if float(one["value"][1]) > 20]) == len(services))
        check_expressions(asked)
        reports = [json.loads(bench.communicate(timeout=harness.LIMIT)[0]) for bench in benches]
        check_figures(asked, loaded, reports[:3])
