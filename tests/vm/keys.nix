# The key of the service is made at the first boot, as on the appliance; the client's is known beforehand.
{
  client,
  stories,
  ...
}:
{
  nodes = {
    server =
      { config, lib, ... }:
      {
        services.repd = {
          enable = true;
          openFirewall = true;
          keyFile = "/var/lib/repd-key/service.key_secret";
        };
        systemd.services.repd-key = {
          requiredBy = [ "repd.service" ];
          before = [ "repd.service" ];
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${lib.getExe config.services.repd.package} keygen --if-missing /var/lib/repd-key/service";
            StateDirectory = "repd-key";
            StateDirectoryMode = "0700";
          };
        };
      };
    inherit client;
  };

  testScript = stories + ''
    start_all()
    server.wait_for_unit("repd.service")
    client.succeed("repd keygen pump-7 >line")
    line = client.succeed("cat line").strip()
    # A list of its own, in the place of the link into the store.
    server.succeed(f"rm /etc/repd/clients; echo '{line}' >/etc/repd/clients; systemctl reload repd.service")
    key = server.succeed("cat /var/lib/repd-key/service.key")
    client.succeed(f"echo {shlex.quote(key)} >service.key")
    keys(server, client, "tcp://server:5555", "/etc/repd/clients")
  '';
}
