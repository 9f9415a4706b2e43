# What the module makes of some configurations; the files beside this one, of the same names, say what it must be: the
# drop-in that NixOS lays beside packaging/repd.service (NixOS's own lines left out, store paths without hashes and
# versions), the ports that are opened, and what is refused.
{
  lib,
  nixosSystem,
  module,
}:
let
  machine =
    settings:
    (nixosSystem {
      modules = [
        module
        {
          services.repd = {
            enable = true;
          }
          // settings;
          nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
          system.stateVersion = "26.05";
        }
      ];
    });

  dropIn =
    { config, ... }:
    let
      text = builtins.unsafeDiscardStringContext config.systemd.units."repd.service".text;
      lines = lib.filter (line: !lib.hasPrefix "Environment=" line) (lib.splitString "\n" text);
      storePath = "${lib.escapeRegex builtins.storeDir}/[0-9a-z]{32}-([^/\" ]+)";
      named = part: if lib.isList part then "/nix/store/${lib.getName (lib.head part)}" else part;
    in
    lib.concatMapStrings named (builtins.split storePath (lib.concatStringsSep "\n" lines));

  perLine = lib.concatMapStrings (line: "${line}\n");
  ports =
    listen:
    toString
      (machine {
        inherit listen;
        openFirewall = true;
      }).config.networking.firewall.allowedTCPPorts;
  refused =
    settings:
    let
      failed = lib.filter (it: !it.assertion) (machine settings).config.assertions;
      own = lib.filter (lib.hasPrefix "services.repd") (map (it: it.message) failed);
    in
    perLine ([ (builtins.toJSON settings) ] ++ map (message: "    ${message}") own);

  program = {
    listen = [
      "tcp://*:80"
      "ipc:///run/repd/clients"
    ];
    program = [
      ../../examples/words.py
      "100 %"
      "$HOME"
    ];
    framing = "packet";
    drain = 20.5;
    environmentFile = "/run/secrets/repd";
  };
in
{
  "default.conf" = dropIn (machine { });
  "program.conf" = dropIn (machine program);
  "upstream.conf" = dropIn (machine {
    upstream = [
      "tcp://10.0.0.1:5555"
      "tcp://10.0.0.2:5555"
    ];
    timeout = 2;
    maxMessageSize = "64k";
    extraArgs = [
      "--retries"
      "1"
    ];
  });
  # Where the machine that builds cannot run what it builds.
  "cross.conf" = dropIn (
    (machine { workers = 0; }).extendModules {
      modules = [
        {
          nixpkgs.hostPlatform = "aarch64-linux";
          nixpkgs.buildPlatform = "x86_64-linux";
        }
      ];
    }
  );

  "ports" = perLine (
    map (listen: "${builtins.toJSON listen}: ${ports listen}") [
      [ ]
      [ "tcp://*:80" ]
      [
        "tcp://eth0:0081"
        "tcp://[::]:82"
        "tcp://localhost:83"
        "tcp://127.0.0.2:84"
        "tcp://[::1]:85"
        "ipc:///run/repd/clients"
      ]
    ]
  );

  "refused" = lib.concatMapStrings refused [
    { listen = [ "tcp:/*:5555" ]; }
    {
      listen = [
        "tcp://*"
        "tcp://:1"
        "tcp://*:65536"
        "tcp://*:-1"
        "tcp://::1:5"
        "tcp://a/b:1"
        "udp://*:1"
        "ipc://"
        "ipc:///run/"
        "ipc://a b"
      ];
    }
    { upstream = [ "tcp://*:5555" ]; }
    {
      handler = "echo";
      program = [ "cat" ];
    }
    {
      backend = [ "tcp://*:5556" ];
      upstream = [ "tcp://10.0.0.1:5555" ];
    }
    {
      workers = 3;
      backend = [ "tcp://*:5555" ];
    }
    { framing = "lines"; }
    {
      listen = [ "tcp://*:*" ];
      openFirewall = true;
    }
    {
      extraArgs = [
        "--drain"
        "60"
        "--"
        "cat"
      ];
    }
  ];
}
