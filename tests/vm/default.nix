# Each story of stories.py, and the machines that it is about: NAME.nix.
{ pkgs, module }:
let
  inherit (pkgs) lib;
  ask = pkgs.writers.writePython3Bin "ask" {
    libraries = [ pkgs.python3Packages.pyzmq ];
    doCheck = false;
  } (builtins.readFile ./ask.py);

  cast = {
    stories = builtins.readFile ./stories.py;
    server.services.repd = {
      enable = true;
      openFirewall = true;
      allowAnyone = true;
    };
    client =
      { config, ... }:
      {
        environment.systemPackages = [
          ask
          config.services.repd.package
        ];
      };
  };

  test =
    name:
    pkgs.testers.runNixOSTest {
      name = "repd-${name}";
      imports = [ (import ./${name}.nix cast) ];
      defaults.imports = [ module ];
    };
in
lib.genAttrs' [
  "basic"
  "edge"
  "hardening"
  "names"
  "program"
  "restart"
  "servers"
  "stop"
  "upstream"
] (name: lib.nameValuePair "vm-${name}" (test name))
