"""What the NixOS module makes of some configurations, as tests/units has it, on a Debian: units, sockets, lists of keys
and groups, laid where NixOS lays them; and the stories that are told of it."""

import pathlib
import shlex

import stories

UNITS = pathlib.Path(__file__).resolve().parents[2] / "units"
SYSTEM = "/etc/systemd/system"
WORDS = "/usr/share/doc/repd/examples/words.py"
# The pair of keys of zmq_curve(7), whose public one is listed in tests/units.
PUMP_7 = """\
curve
    public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
    secret-key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
"""


def lay(server, name, path):
    """Makes that file of the one in tests/units, with what the package has in the place of the Nix store."""
    text = (UNITS / name).read_text().replace("/nix/store/words.py", WORDS).replace("/nix/store/repd", "/usr")
    server.succeed(f"mkdir -p {pathlib.Path(path).parent}; echo {shlex.quote(text)} >{path}")


def switch(server, name, unit="repd.service"):
    """Makes that configuration the unit's, as the end of a switch does."""
    lay(server, f"{name}.conf", f"{SYSTEM}/{unit}.d/overrides.conf")
    server.succeed("systemctl daemon-reload", f"systemctl restart {unit}")


def is_for_the_group_alone(server, reply):
    """Also another user of it, and nobody else but root."""
    call = "repd call ipc:///run/repd/clients 'one two three'"
    somebody = "setpriv --reuid 1234 --regid 1234 --clear-groups"
    member = "setpriv --reuid 1234 --regid repd-clients --clear-groups"
    assert server.succeed(f"{member} {call}") == server.succeed(call) == reply
    code, said = server.execute(f"{somebody} {call}")
    assert code == 1 and "Permission denied" in said, (code, said)


def program(server):
    """Its quoting, the port below 1024, the files of environment, and the sockets of a group."""
    switch(server, "program")
    assert server.succeed("repd call tcp://127.0.0.1:80 'one two'") == "2\n"
    is_for_the_group_alone(server, "3\n")
    program = server.succeed(f"pgrep --oldest --parent {stories.shown(server, 'MainPID')}").strip()
    assert server.succeed(f"tr '\\0' '\\n' </proc/{program}/cmdline").splitlines()[-2:] == ["100 %", "$HOME"]
    has = server.succeed(f"tr '\\0' '\\n' </proc/{program}/environ").splitlines()
    assert "REPD_TEST=kept" in has and not any(it.startswith("REPD_OPTIONS") for it in has), has
    # By a tenth each: the port's capability, users as the system has them, the umask of a group.
    print(server.succeed("systemd-analyze security --no-pager --threshold 16 repd.service").splitlines()[-1])


def group(server):
    switch(server, "group")
    is_for_the_group_alone(server, "eerht owt eno\n")


def nobody_but_this_machine(server, client, endpoint):
    """Where nothing is said of who may connect."""
    switch(server, "default")
    stories.calls(server, "tcp://127.0.0.1:5555", "hello", "olleh")
    stories.is_not_served(client, endpoint, "closed the connection")


def anyone(server, client, endpoint):
    switch(server, "anyone")
    stories.basic(server, [client], endpoint)
    stories.status(server)
    stories.hardening(server, 1.2)
    stories.restart(server, client, endpoint)
    stories.stop(server, client, endpoint)


def keys(server, client, endpoint):
    server.succeed("cd /run/secrets; repd keygen repd")
    (client.folder / "service.key").write_text(server.succeed("cat /run/secrets/repd.key"))
    (client.folder / "pump-7.key_secret").write_text(PUMP_7)
    (client.folder / "pump-7.key_secret").chmod(0o600)
    lay(server, "clients", "/etc/repd/clients")
    switch(server, "keys")
    stories.keys(server, client, endpoint, "/etc/repd/clients")
    stories.hardening(server, 1.2)


def servers(server, client, endpoint):
    """The second one wants keys over TCP, and listens for this machine alone."""
    server.succeed("cd /run/secrets; repd keygen blue")
    lay(server, "clients", "/etc/repd/blue/clients")
    switch(server, "anyone")
    switch(server, "instance", "repd@blue.service")
    stories.servers(server, client, endpoint, "olleh", "ipc:///run/repd-blue/clients")
    server.succeed("systemctl stop repd@blue.service")


def sockets(server):
    """systemd listens at other addresses than the package's own unit says."""
    server.succeed("systemctl stop repd.service")
    lay(server, "activated.socket", f"{SYSTEM}/repd.socket")
    server.succeed("systemctl daemon-reload; systemctl start repd.socket")
    switch(server, "activated")
    stories.restarts(server, server, "tcp://127.0.0.1:80")
    stories.calls(server, "tcp://[::1]:5555", "hello", "olleh")
    server.succeed("systemctl stop repd.socket repd.service")


def tell(chapter, server, client, endpoint):
    server.succeed(
        "groupadd --system repd-clients",
        "mkdir -p /run/secrets; touch /run/secrets/one; echo REPD_TEST=kept >/run/secrets/two",
        # It is not read.
        "echo 'REPD_OPTIONS=--nonsense' >/etc/default/repd",
    )
    chapter("NixOS: program", program, server)
    chapter("NixOS: group", group, server)
    chapter("NixOS: this machine", nobody_but_this_machine, server, client, endpoint)
    chapter("NixOS: anyone", anyone, server, client, endpoint)
    chapter("NixOS: keys", keys, server, client, endpoint)
    chapter("NixOS: servers", servers, server, client, endpoint)
    chapter("NixOS: sockets", sockets, server)
    server.succeed(
        f"rm -r {SYSTEM}/repd.service.d {SYSTEM}/repd@blue.service.d {SYSTEM}/repd.socket /etc/repd /run/secrets",
        "rm /etc/default/repd; groupdel repd-clients; systemctl daemon-reload",
    )
