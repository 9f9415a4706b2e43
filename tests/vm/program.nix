{ client, stories, ... }:
{
  nodes = {
    server =
      { lib, pkgs, ... }:
      {
        services.repd = {
          enable = true;
          openFirewall = true;
          allowAnyone = true;
          program = [
            (lib.getExe pkgs.python3)
            ../../examples/words.py
          ];
        };
      };
    inherit client;
  };

  testScript = stories + ''
    start_all()
    program(server, client, "tcp://server:5555")
  '';
}
