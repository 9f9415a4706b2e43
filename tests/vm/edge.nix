# The appliance's configuration, on other hardware.
{ client, stories, ... }:
{
  nodes = {
    edge.imports = [ ../../nixos/edge.nix ];
    inherit client;
  };

  testScript = stories + ''
    start_all()
    basic(edge, [client], "tcp://edge:5555")
  '';
}
