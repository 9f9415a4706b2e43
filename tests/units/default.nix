# What the module makes of some configurations. `told`: what the files beside this one, of the same names, say that it
# must be: the drop-in that NixOS lays beside packaging/repd.service (NixOS's own lines left out, store paths without
# hashes and versions), the ports that are opened, and what is refused. `checks`: by configuration, the check at build
# time, which runs repd.
{
  lib,
  nixosSystem,
  module,
  system,
}:
let
  machineOf =
    hostPlatform: settings:
    nixosSystem {
      modules = [
        module
        {
          # Said in what is refused.
          _file = ./default.nix;
          services.repd = {
            enable = true;
          }
          // settings;
          nixpkgs = { inherit hostPlatform; };
          system.stateVersion = "26.05";
        }
      ];
    };
  # The drop-ins are the same for every system.
  machine = machineOf "x86_64-linux";

  # Store paths without hashes and versions.
  named =
    text:
    let
      storePath = "${lib.escapeRegex builtins.storeDir}/[0-9a-z]{32}-([^/\" ]+)";
      name = part: if lib.isList part then "/nix/store/${lib.getName (lib.head part)}" else part;
    in
    lib.concatMapStrings name (builtins.split storePath text);

  dropIn = unitOf "repd.service";
  unitOf =
    unit:
    { config, ... }:
    let
      text = builtins.unsafeDiscardStringContext config.systemd.units.${unit}.text;
    in
    named (
      lib.concatLines (
        lib.filter (line: !lib.hasPrefix "Environment=" line) (lib.splitString "\n" (lib.trim text))
      )
    );

  perLine = lib.concatMapStrings (line: "${line}\n");
  ports =
    listen:
    toString
      (machine {
        settings = { inherit listen; };
        openFirewall = true;
        allowAnyone = true;
      }).config.networking.firewall.allowedTCPPorts;
  statusPorts =
    status:
    toString
      (machine {
        settings = { inherit status; };
        openStatusFirewall = true;
      }).config.networking.firewall.allowedTCPPorts;
  refused =
    settings:
    let
      failed = lib.filter (it: !it.assertion) (machine settings).config.assertions;
      own = lib.filter (lib.hasInfix "services.repd") (map (it: lib.trim it.message) failed);
    in
    perLine (
      [ (builtins.toJSON settings) ]
      ++ map (message: "    ${lib.replaceString "\n" "\n    " (named message)}") own
    );

  configurations = {
    default = { };
    program = {
      settings = {
        listen = [
          "tcp://*:80"
          "ipc:///run/repd/clients"
        ];
        framing = "packet";
        drain = 20.5;
      };
      program = [
        ../../examples/words.py
        "100 %"
        "$HOME"
      ];
      group = "repd-clients";
      environmentFile = [
        "/run/secrets/one"
        "/run/secrets/two"
      ];
    };
    group = {
      settings.listen = [ "ipc:///run/repd/clients" ];
      group = "repd-clients";
    };
    upstream.settings = {
      upstream = [
        "tcp://10.0.0.1:5555"
        # Does not wait for the network: names are looked up again and again.
        "tcp://back.example:5555"
      ];
      timeout = 2;
      max-message-size = "64k";
      max-memory = "16M";
      client-rate = 50;
      # Without an option of the module's own.
      retries = 1;
      verbose = true;
      multipart = false;
      max-outstanding = 50;
    };
    keys = {
      keyFile = "/run/secrets/repd.key_secret";
      clients = {
        pump-7 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
        pump-8 = [ ];
      };
    };
    workers = configurations.keys // {
      backendClients.worker = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6 from=10.0.0.0/8";
      settings.backend = [ "tcp://*:5556" ];
    };
    anyone.allowAnyone = true;
    activated = {
      allowAnyone = true;
      socketActivation = true;
      settings.listen = [
        "tcp://*:80"
        "tcp://[::1]:5555"
      ];
    };
    # Up when an address is there.
    network.settings = {
      listen = [ "tcp://eth0:5555" ];
      status = "tcp://127.0.0.1:9155";
      log = "syslog";
    };
    # As it was written before there were settings.
    unset = {
      environmentFile = null;
      # Nowhere.
      settings.status = "";
      workers = null;
    };
    before = {
      listen = [ "tcp://127.0.0.1:5555" ];
      handler = "echo";
      workers = 3;
      timeout = 2.5;
      drain = 1;
      maxMessageSize = 4096;
      logTarget = "syslog";
      environmentFile = "/run/secrets/repd";
    };
    before-program = {
      framing = "lines";
      program = [ "cat" ];
    };
    before-backend.backend = [ "tcp://127.0.0.1:5556" ];
    before-upstream.upstream = [ "tcp://10.0.0.1:5555" ];
  };

  # One beside the other.
  instance.servers.blue = {
    settings.listen = [ "ipc:///run/repd-blue/clients" ];
    keyFile = "/run/secrets/blue.key_secret";
    clients.pump-7 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
  };

  # Each option's example, with what it needs.
  examples =
    let
      options = (machine { }).options.services.repd;
      examplesOf = lib.concatMapAttrs (
        name: option:
        lib.optionalAttrs (option ? example && !(option.example ? _type)) { ${name} = option.example; }
      );
      ofSetting =
        name: example:
        lib.nameValuePair "settings.${name}" {
          settings.${name} = example;
          program = lib.optional (name == "framing") "cat";
        };
      # Without these no list is read.
      needs = {
        clients = { inherit (configurations.keys) keyFile; };
        backendClients = {
          inherit (configurations.workers) keyFile clients settings;
        };
      };
    in
    lib.mapAttrs' ofSetting (examplesOf (options.settings.type.getSubOptions [ ]))
    // lib.mapAttrs (name: example: (needs.${name} or { }) // { ${name} = example; }) (
      examplesOf options
    );

  listens = [
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
  ];
in
{
  told =
    lib.mapAttrs' (
      name: settings: lib.nameValuePair "${name}.conf" (dropIn (machine settings))
    ) configurations
    // {
      # Where the machine that builds cannot run what it builds.
      "cross.conf" = dropIn (
        (machineOf (lib.mkDefault "x86_64-linux") { settings.workers = 0; }).extendModules {
          modules = [
            {
              nixpkgs.hostPlatform = "aarch64-linux";
              nixpkgs.buildPlatform = "x86_64-linux";
            }
          ];
        }
      );

      "activated.socket" = unitOf "repd.socket" (machine configurations.activated);

      "instance.conf" = unitOf "repd@blue.service" (machine instance);

      "clients" = (machine configurations.keys).config.environment.etc."repd/clients".text;

      "backend-clients" =
        (machine configurations.workers).config.environment.etc."repd/backend-clients".text;

      "ports" =
        perLine (map (listen: "${builtins.toJSON listen}: ${ports listen}") listens)
        + perLine [ "the status: ${statusPorts "tcp://*:9155"}" ];

      "refused" = lib.concatMapStrings refused (
        # What answers is one thing.
        lib.mapCartesianProduct ({ here, elsewhere }: lib.recursiveUpdate here elsewhere) {
          here = [
            { settings.handler = "echo"; }
            { program = [ "cat" ]; }
            { settings.workers = 3; }
            {
              settings.framing = "lines";
              program = [ "cat" ];
            }
          ];
          elsewhere = [
            { settings.backend = [ "tcp://127.0.0.1:5556" ]; }
            { settings.upstream = [ "tcp://10.0.0.1:5555" ]; }
          ];
        }
        ++ [
          { settings.listen = [ "tcp:/*:5555" ]; }
          {
            settings.listen = [
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
          { settings.upstream = [ "tcp://*:5555" ]; }
          {
            settings.handler = "echo";
            program = [ "cat" ];
          }
          {
            settings.backend = [ "tcp://*:5556" ];
            settings.upstream = [ "tcp://10.0.0.1:5555" ];
          }
          {
            settings.workers = 3;
            settings.backend = [ "tcp://*:5555" ];
            allowAnyone = true;
          }
          { settings.framing = "lines"; }
          { settings.check = true; }
          { settings.help = true; }
          { settings.multipart = true; }
          { settings.max-outstanding = 5; }
          { settings.status = "tcp://*"; }
          { settings.status = "fd://status"; }
          { openStatusFirewall = true; }
          {
            settings.status = "tcp://127.0.0.1:9155";
            openStatusFirewall = true;
          }
          {
            settings.log = "journal";
            settings.log-format = "json";
          }
          {
            settings.listen = [ "tcp://*:*" ];
            openFirewall = true;
          }
          { group = "repd"; }
          { servers.blue = { }; }
          { servers."not-this" = { }; }
          {
            socketActivation = true;
            settings.listen = [
              "tcp://eth0:5555"
              "ipc:///run/clients"
            ];
          }
          { openFirewall = true; }
          { clients.pump-7 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"; }
          {
            keyFile = "/run/secrets/repd.key_secret";
            clients."pump 7" = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
            settings.backend = [ "tcp://*:5556" ];
            settings.key = "/run/secrets/repd.key_secret";
          }
          {
            extraArgs = [
              "--retries"
              "1"
            ];
          }
        ]
      );
    };

  checks =
    let
      listening = lib.listToAttrs (
        lib.imap1 (
          number: listen: lib.nameValuePair "listen-${toString number}" { settings = { inherit listen; }; }
        ) listens
      );
      # Of a machine with several services, one for each.
      check =
        name: settings:
        lib.imap1 (number: lib.nameValuePair "${name}-${toString number}") (
          lib.filter (it: it.name == "repd-check") (machineOf system settings).config.system.checks
        );
    in
    lib.listToAttrs (
      lib.concatLists (
        lib.mapAttrsToList check (configurations // examples // listening // { inherit instance; })
      )
    );
}
