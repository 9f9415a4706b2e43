"""What a repd does in its service's life, told of machines: NixOS's own, and those of tests/vm/debian.

A machine is what the NixOS test driver has. A client has `repd` and `ask` (ask.py) on its PATH.
"""

import json
import shlex
import typing


class Host(typing.Protocol):
    """What the stories need of a machine; all of it as in the NixOS manual, "Machine objects"."""

    def succeed(self, /, *commands: str) -> str: ...
    def wait_until_succeeds(self, command: str, /) -> str: ...
    def wait_for_unit(self, unit: str, /) -> object: ...
    def crash(self) -> None: ...
    def start(self) -> None: ...


class Load:
    """Requests of several clients without pause, from when each has had its first reply."""

    def __init__(self, client: Host, endpoint: str, clients: int = 10, options: str = "") -> None:
        self.client = client
        self.clients = clients
        client.succeed(
            "rm -f flowing report",
            f"ask {shlex.quote(endpoint)} --clients {clients} {options} --flowing flowing"
            " >report 2>complaints & echo $! >asking",
        )
        client.wait_until_succeeds("test -e flowing")

    def stop(self) -> None:
        self.client.succeed("kill -TERM $(cat asking)")

    def report(self) -> dict[str, int]:
        """What came, once the clients have ended."""
        self.client.wait_until_succeeds("test -s report || test -s complaints")
        report = self.client.succeed("cat complaints report")
        print(report)
        return json.loads(report)

    def is_all_answered(self, refused: int = 0) -> None:
        came = self.report()
        assert came.pop("replies") >= self.clients, "not every client had a reply"
        assert came == {"refused": refused, "wrong": 0, "lost": 0}, came


def shown(server: Host, key: str) -> str:
    """What systemd says of the service."""
    return server.succeed(f"systemctl show --property {key} --value repd.service").strip()


def calls(client: Host, endpoint: str, request: str, reply: str, options: str = "") -> None:
    command = f"repd call {options} {shlex.quote(endpoint)} {shlex.quote(request)}"
    said = client.succeed(command).strip()
    assert said == reply, f"{command}: {said!r} is not {reply!r}"


def is_not_served(client: Host, endpoint: str, why: str, options: str = "") -> None:
    command = f"repd call --timeout 5 {options} {shlex.quote(endpoint)} hello 2>&1"
    said = client.succeed(f"code=0; said=$({command}) || code=$?; echo $code $said")
    assert said.startswith("1 error: ") and why in said, f"{command}: {said!r} is not about {why!r}"


def status(server: Host) -> None:
    """What the service does is shown to root, and to no other user."""
    server.wait_for_unit("repd.service")
    server.succeed("repd status --quiet", "repd status | grep '^serving, since'")
    stranger = "setpriv --reuid 65534 --regid 65534 --clear-groups repd status --quiet"
    server.succeed(f"code=0; {stranger} || code=$?; test $code = 3")


def keys(server: Host, client: Host, endpoint: str, clients: str) -> None:
    """Who is listed is served, until a reload has taken it off. The client has the public key of the service, in
    service.key, and a listed one, in pump-7.key_secret."""
    server.wait_for_unit("repd.service")
    own = "--server-key service.key --key pump-7.key_secret"
    calls(client, endpoint, "hello", "olleh", own)
    is_not_served(client, endpoint, "wants keys")
    server.succeed(f"mv {clients} {clients}.before; touch {clients}; systemctl reload repd.service")
    server.wait_until_succeeds("journalctl -u repd.service | grep 'clients: 0 (+0 -1)'")
    is_not_served(client, endpoint, "does not let this key in", own)
    server.succeed(f"mv {clients}.before {clients}; systemctl reload repd.service")
    server.wait_until_succeeds("journalctl -u repd.service | grep 'clients: 1 (+1 -0)'")
    calls(client, endpoint, "hello", "olleh", own)


def basic(server: Host, clients: list[Host], endpoint: str) -> None:
    """Several clients at a time, of two kinds; each gets its own replies."""
    server.wait_for_unit("repd.service")
    loads = [Load(client, endpoint) for client in clients]
    for number in range(20):
        for client in clients:
            calls(client, endpoint, f"hello {number}", f"hello {number}"[::-1])
    for load in loads:
        load.stop()
    for load in loads:
        load.is_all_answered()


def program(server: Host, client: Host, endpoint: str, exposure: float = 1.5) -> None:
    """words.py counts words; a copy that is killed is replaced; a stop lets the copies finish."""
    server.wait_for_unit("repd.service")
    calls(client, endpoint, "how many words is this", "5")
    load = Load(client, endpoint, options="--expect words")
    load.stop()
    load.is_all_answered()
    copies = f"--parent {shown(server, 'MainPID')}"
    before = server.succeed(f"pgrep {copies}").split()
    assert len(before) == 5, before
    server.succeed(f"pkill -KILL {copies}")
    server.wait_until_succeeds(f"test $(pgrep {copies} | grep -cvxE '{'|'.join(before)}') = 5")
    calls(client, endpoint, "and now", "2")
    hardening(server, exposure)
    load = Load(client, endpoint, clients=50, options="--expect words")
    is_stopped(server, load)
    server.succeed("systemctl start repd.service")


def upstream(front: Host, backs: list[Host], client: Host, endpoint: str) -> None:
    """One of the machines behind is cut off under load, and comes back: no client notices."""
    for server in [front, *backs]:
        server.wait_for_unit("repd.service")
    front.wait_until_succeeds(f"test $(journalctl -u repd.service | grep -c ': connected') -ge {len(backs)}")
    load = Load(client, endpoint, clients=20)
    backs[0].crash()
    front.wait_until_succeeds("journalctl -u repd.service | grep ': the connection has ended'")
    load.stop()
    load.is_all_answered()
    backs[0].start()
    backs[0].wait_for_unit("repd.service")
    front.wait_until_succeeds(f"test $(journalctl -u repd.service | grep -c ': connected') -gt {len(backs)}")
    calls(client, endpoint, "all here", "ereh lla")


def names(dns: Host, front: Host, backs: dict[str, Host], client: Host, endpoint: str) -> None:
    """Of three machines behind a name, by address, one is added under load, one is drained and one crashes: no client
    notices."""
    dns.wait_for_unit("names.service")
    for server in [front, *backs.values()]:
        server.wait_for_unit("repd.service")

    def stands_for(*addresses: str) -> None:
        # At once, since it may be read meanwhile.
        dns.succeed(f"echo {' '.join(addresses)} >/etc/backs.next", "mv /etc/backs.next /etc/backs")

    def is_connected(address: str) -> None:
        front.wait_until_succeeds(f"journalctl -u repd.service | grep -F '({address}): connected'")

    drained, crashed, added = backs
    stands_for(drained, crashed)
    for address in [drained, crashed]:
        is_connected(address)
    load = Load(client, endpoint, clients=20)
    stands_for(drained, crashed, added)
    is_connected(added)
    stands_for(crashed, added)
    # It is shown until it has answered all that it had.
    front.wait_until_succeeds(f"repd status >shown && grep -F '({added})' shown && ! grep -F '({drained})' shown")
    backs[drained].succeed("systemctl stop repd.service")
    backs[crashed].crash()
    front.wait_until_succeeds(f"journalctl -u repd.service | grep -F '({crashed}): the connection has ended'")
    calls(client, endpoint, "still here", "ereh llits")
    load.stop()
    load.is_all_answered()
    # It has refused nobody.
    backs[drained].succeed(r"journalctl -u repd.service | grep -E 'stopped: requests: ([1-9][0-9]*), replies: \1$'")


def restart(server: Host, client: Host, endpoint: str) -> None:
    """The service is killed, and is back before its clients give up."""
    server.wait_for_unit("repd.service")
    load = Load(client, endpoint, options="--timeout 2 --retries 60")
    before = [shown(server, key) for key in ["MainPID", "NRestarts"]]
    server.succeed("systemctl kill --signal KILL repd.service")
    calls(client, endpoint, "still there", "ereht llits", "--timeout 2 --retries 60")
    load.stop()
    load.is_all_answered()
    server.wait_for_unit("repd.service")
    assert shown(server, "MainPID") != before[0]
    assert int(shown(server, "NRestarts")) == int(before[1]) + 1


def servers(server: Host, client: Host, endpoint: str, reply: str, *places: str) -> None:
    """A second service of the machine, repd@blue.service, replies to "hello" at places of its own; whether it is killed
    or stopped, the first one goes on."""
    server.wait_for_unit("repd.service")
    server.wait_for_unit("repd@blue.service")
    load = Load(client, endpoint)

    def blue_serves() -> None:
        for place in places:
            calls(server, place, "hello", reply, "--timeout 2 --retries 60")
        server.succeed("repd status --quiet", "repd status --quiet ipc:///run/repd-blue/status")

    blue_serves()
    restarts = "systemctl show --property NRestarts --value repd@blue.service"
    before = server.succeed(restarts).strip()
    server.succeed("systemctl kill --signal KILL repd@blue.service")
    server.wait_until_succeeds(f"test $({restarts}) -gt {before}")
    server.wait_for_unit("repd@blue.service")
    blue_serves()
    server.succeed("systemctl stop repd@blue.service", "! test -e /run/repd-blue", "repd status --quiet")
    calls(client, endpoint, "still here", "ereh llits")
    load.stop()
    load.is_all_answered()
    server.succeed("systemctl start repd@blue.service")


def watchdog(server: Host, client: Host, endpoint: str) -> None:
    """systemd sees what the service does, and a service that hangs is started again. (Here after two seconds.)"""
    server.wait_for_unit("repd.service")
    assert shown(server, "StatusText").startswith("serving at tcp://"), shown(server, "StatusText")
    assert shown(server, "WatchdogUSec") == "30s", shown(server, "WatchdogUSec")
    folder = "/etc/systemd/system/repd.service.d"
    server.succeed(
        f"mkdir -p {folder}; printf '[Service]\\nWatchdogSec=2\\n' >{folder}/overrides.conf",
        "systemctl daemon-reload; systemctl restart repd.service",
    )
    before = shown(server, "MainPID")
    server.succeed("systemctl reload repd.service", "sleep 4")
    assert shown(server, "MainPID") == before, "a service that does not hang was started again"
    assert shown(server, "SubState") == "running", shown(server, "SubState")
    server.succeed(f"kill -STOP {before}")
    server.wait_until_succeeds(f"test $(systemctl show --property MainPID --value repd.service) -gt {before}")
    server.wait_until_succeeds("journalctl -u repd.service | grep 'Watchdog timeout'")
    server.wait_for_unit("repd.service")
    calls(client, endpoint, "again", "niaga")


def restarts(server: Host, client: Host, endpoint: str) -> None:
    """The service is restarted under load, again and again, where systemd listens: nobody is refused."""
    server.wait_for_unit("repd.service")
    client.succeed(
        "rm -f refused called stop",
        # Redirected one by one: of all of them together they would keep what leads back here.
        "for n in 1 2 3 4; do (while ! test -e stop; do"
        f" repd call --timeout 20 --retries 3 {shlex.quote(endpoint)} abc >>called 2>>refused || echo $? >>refused; done)"
        " >/dev/null 2>&1 </dev/null & done",
    )
    for number in range(1, 5):
        client.wait_until_succeeds(f"test $(cat called | wc -l) -gt {100 * number}")
        before = shown(server, "MainPID")
        server.succeed("systemctl restart repd.service")
        assert shown(server, "MainPID") != before
    client.succeed("touch stop; test ! -s refused || { cat refused; false; }", "! grep -vx cba called")
    print(client.succeed("cat called | wc -l").strip(), "calls while it was restarted 4 times")


def is_stopped(server: Host, load: Load) -> None:
    """Each request sent has its reply, each client was told, and nothing is left."""
    server.succeed("systemctl stop repd.service")
    load.is_all_answered(refused=load.clients)
    ended = [shown(server, key) for key in ["ActiveState", "Result", "ExecMainCode", "ExecMainStatus"]]
    assert ended == ["inactive", "success", "1", "0"], ended
    server.succeed("journalctl -u repd.service | grep 'stopped: requests'")


def stop(server: Host, client: Host, endpoint: str) -> None:
    """The service is stopped under load, and started again."""
    server.wait_for_unit("repd.service")
    is_stopped(server, Load(client, endpoint, clients=50))
    server.succeed("systemctl start repd.service")
    calls(client, endpoint, "again", "niaga")


def hardening(server: Host, exposure: float = 1.5) -> None:
    """Whoever breaks into the service has nothing; systemd's figure for that is at most so much, of 10."""
    server.wait_for_unit("repd.service")
    command = f"systemd-analyze security --no-pager --threshold {exposure * 10:.0f} repd.service"
    print(server.succeed(command).splitlines()[-1])
    status = server.succeed(f"cat /proc/{shown(server, 'MainPID')}/status")
    is_now = {key: value.split() for key, _, value in (line.partition(":") for line in status.splitlines())}
    assert "0" not in is_now["Uid"] + is_now["Gid"], "it runs as root"
    for kind in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
        assert int(is_now[kind][0], 16) == 0, f"it has {kind}"
    assert is_now["NoNewPrivs"] == ["1"] and is_now["Seccomp"] == ["2"], "it may get more, or call all"
