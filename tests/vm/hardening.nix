{ stories, ... }:
{
  nodes.server.services.repd.enable = true;

  testScript = stories + ''
    hardening(server)
  '';
}
