# Three machines behind a name, which a name server of its own looks after.
{
  client,
  server,
  stories,
}:
{
  nodes = {
    dns =
      { pkgs, ... }:
      let
        nameServer = pkgs.writers.writePython3Bin "name-server" { doCheck = false; } (
          builtins.readFile ./name_server.py
        );
      in
      {
        networking.firewall.allowedUDPPorts = [ 53 ];
        # The file that the story writes to.
        environment.etc.backs = {
          text = "";
          mode = "0644";
        };
        systemd.services.names = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${nameServer}/bin/name-server back.test /etc/backs";
        };
      };
    front =
      { nodes, ... }:
      {
        networking = {
          # Which would bring a name server too.
          useDHCP = false;
          nameservers = [ nodes.dns.networking.primaryIPAddress ];
        };
        services.repd = {
          enable = true;
          openFirewall = true;
          allowAnyone = true;
          settings = {
            upstream = [ "tcp://back.test:5555" ];
            # A machine that vanishes says nothing: it is missed after two seconds.
            heartbeat = 1;
            retries = 1;
          };
        };
      };
    back1 = server;
    back2 = server;
    back3 = server;
    inherit client;
  };

  testScript =
    { nodes, ... }:
    stories
    + ''
      start_all()
      backs: dict[str, Host] = {
          "${nodes.back1.networking.primaryIPAddress}": back1,
          "${nodes.back2.networking.primaryIPAddress}": back2,
          "${nodes.back3.networking.primaryIPAddress}": back3,
      }
      names(dns, front, backs, client, "tcp://front:5555")
    '';
}
