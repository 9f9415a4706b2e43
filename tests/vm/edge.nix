# The appliance's configuration, on other hardware.
{ client, stories, ... }:
{
  nodes = {
    edge.imports = [ ../../nixos/edge.nix ];
    inherit client;
  };

  testScript = stories + ''
    start_all()
    edge.wait_for_unit("repd.service")
    # It shows the public key that it has made.
    edge.succeed("journalctl -u repd-key.service | grep -E 'service .{40}$'")
    is_not_served(client, "tcp://edge:5555", "wants keys")
    line = client.succeed("repd keygen pump-7").strip()
    edge.succeed(f"rm /etc/repd/clients; echo '{line}' >/etc/repd/clients; systemctl reload repd.service")
    key = edge.succeed("cat /var/lib/repd-key/service.key")
    client.succeed(f"echo {shlex.quote(key)} >service.key")
    keys(edge, client, "tcp://edge:5555", "/etc/repd/clients")
  '';
}
