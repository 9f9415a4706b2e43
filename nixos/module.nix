{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.repd;
  inherit (cfg) settings;

  parse = import ./endpoint.nix { inherit lib; };
  defaultPort = import ./default-port.nix { inherit lib; };
  hasKey = cfg.keyFile != null;
  # Until there is a key, or it is said that anybody may connect, for this machine alone.
  isLocal = settings.listen == [ ] && !hasKey && !cfg.allowAnyone;
  listen =
    if settings.listen == [ ] then
      [
        {
          host = if isLocal then "127.0.0.1" else "*";
          port = defaultPort;
        }
      ]
    else
      map parse settings.listen;
  backend = map parse settings.backend;
  upstream = map parse settings.upstream;

  isTcp = place: place ? port;
  isLoopback = place: builtins.match "localhost|lo|127\\..*|\\[::1]" place.host != null;
  isEveryAddress = place: builtins.match "\\*|0\\.0\\.0\\.0|\\[::]" place.host != null;
  isAddress = place: builtins.match "[0-9.]+|\\[.*]" place.host != null;

  openPorts = map (place: place.port) (lib.filter (place: isTcp place && !isLoopback place) listen);
  bindsPrivilegedPort = lib.any (place: isTcp place && place.port > 0 && place.port < 1024) (
    listen ++ backend
  );
  # An address of this machine may be assigned late, and a name is looked up once, at the start.
  needsNetwork =
    lib.any (place: isTcp place && !isLoopback place && !isEveryAddress place) (listen ++ backend)
    || lib.any (place: isTcp place && !isLoopback place && !isAddress place) upstream;

  # Only what is set is passed, so that the defaults are repd's own.
  commandLine =
    settings: program:
    [
      (lib.getExe cfg.package)
      "serve"
    ]
    ++ lib.cli.toCommandLine (name: {
      option = "--${name}";
      # Older versions of repd do not read --name=value.
      sep = null;
      explicitBool = false;
    }) settings
    ++ withProgram program;
  withProgram = program: lib.optionals (program != [ ]) ([ "--" ] ++ program);

  # A list has a line for each key.
  toList =
    clients:
    lib.concatLines (
      lib.concatLists (lib.mapAttrsToList (name: map (value: "${name} ${value}")) clients)
    );
  lists = lib.optionalAttrs hasKey (
    {
      clients = cfg.clients;
    }
    // lib.optionalAttrs (cfg.backendClients != { }) { backend-clients = cfg.backendClients; }
  );
  # What the key of a list is for; the key itself is a credential of systemd's, %d/key.
  access =
    lib.optionalString hasKey " --key %d/key"
    + lib.concatMapStrings (name: " --${name} /etc/repd/${name}") (lib.attrNames lists)
    + lib.optionalString isLocal " --listen tcp://127.0.0.1:${toString defaultPort}";

  # The machine that builds has other addresses, no log daemon, no key, and other programs on its PATH.
  # So the check uses stand-ins that exist everywhere.
  check =
    let
      isBuilt = lib.hasPrefix "${builtins.storeDir}/" (lib.head cfg.program);
      repd = lib.getExe cfg.package;
      program = if cfg.program == [ ] || isBuilt then cfg.program else [ repd ];
      key = lib.optionalString hasKey "${repd} keygen service >/dev/null";
      access = lib.optionals hasKey (
        [
          "--key"
          "service.key_secret"
        ]
        ++ lib.concatMap (name: [
          "--${name}"
          config.environment.etc."repd/${name}".source
        ]) (lib.attrNames lists)
      );
    in
    "${key}\n${lib.escapeShellArgs (commandLine checked [ ] ++ access ++ withProgram program)} >$out";
  checked = settings // {
    check = true;
    listen = [ "tcp://127.0.0.1:*" ];
    backend = map (_: "tcp://127.0.0.1:*") settings.backend;
    # The machine itself has these.
    key = null;
    clients = null;
    backend-clients = null;
    servers = null;
    upstream = lib.imap1 (number: _: "tcp://127.0.0.1:${toString number}") settings.upstream;
    log = null;
  };

  isGiven =
    name:
    let
      value = if name == "program" then cfg.program else settings.${name};
    in
    value != null && value != [ ];
  excludes = one: other: {
    assertion = !(isGiven one && isGiven other);
    message = "services.repd: cannot use ${one} with ${other}; leave out one of them.";
  };
  wellFormed =
    name:
    map (text: {
      assertion = parse text != { };
      message =
        "services.repd.settings.${name}: ${builtins.toJSON text} is not an endpoint; give tcp://HOST:PORT, "
        + "with a port from 1 to 65535 or * for any, or ipc://PATH with at most 107 bytes.";
    }) settings.${name};
  onePlace = text: {
    assertion = (parse text).host or null != "*" && (parse text).port or null != 0;
    message = "services.repd.settings.upstream: ${builtins.toJSON text} is not one address; name a host and a port.";
  };

  optional =
    type: attributes:
    mkOption (
      {
        type = types.nullOr type;
        default = null;
      }
      // attributes
    );
  clientList =
    attributes:
    mkOption (
      {
        type = types.attrsOf (
          types.coercedTo types.singleLineStr lib.singleton (types.listOf types.singleLineStr)
        );
        default = { };
      }
      // attributes
    );
  sizeWith = units: types.either types.ints.positive (types.strMatching "[0-9]+[${units}]?");
  endpoints =
    attributes:
    mkOption (
      {
        type = types.listOf types.str;
        default = [ ];
      }
      // attributes
    );

  value =
    let
      one = types.oneOf [
        types.bool
        types.int
        types.float
        types.str
      ];
    in
    types.nullOr (types.either one (types.listOf one));

  # The names of version 0.1, before there were settings.
  renamed =
    lib.mapAttrsToList
      (from: to: lib.mkRenamedOptionModule [ "services" "repd" from ] [ "services" "repd" "settings" to ])
      {
        listen = "listen";
        workers = "workers";
        handler = "handler";
        framing = "framing";
        backend = "backend";
        upstream = "upstream";
        timeout = "timeout";
        drain = "drain";
        maxMessageSize = "max-message-size";
        logTarget = "log";
      };
in
{
  imports = renamed ++ [
    (lib.mkRemovedOptionModule [
      "services"
      "repd"
      "extraArgs"
    ] "Write each of its options as a setting, such as services.repd.settings.retries = 1.")
  ];

  options.services.repd = {
    enable = lib.mkEnableOption "repd, a ZeroMQ request-reply server. {command}`repd` and its manual are then on the PATH too";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "the repd that this module came with";
      example = lib.literalExpression "pkgs.repd";
      description = "The repd to run.";
    };

    settings = mkOption {
      default = { };
      example = {
        listen = [ "tcp://*:5555" ];
        workers = 16;
        retries = 1;
        verbose = true;
      };
      description = ''
        The options of {command}`repd serve`, all of them, by their names. They are described in
        {manpage}`repd(1)`. A switch is set by `true`, and an option that may be given several times
        is a list. An option that is not set keeps repd's own default. For a program as the handler,
        set {option}`services.repd.program`.
      '';
      type = types.submodule {
        freeformType = types.attrsOf value;
        options = {
          listen = endpoints {
            example = [
              "tcp://*:5555"
              "ipc:///run/repd/clients"
            ];
            description = ''
              Endpoints where clients connect, `tcp://HOST:PORT` or `ipc://PATH`.

              The service can make files in {file}`/run/repd`. {option}`services.repd.group` sets
              who can connect to them. For a port below 1024, the service gets the capability that
              it needs.
            '';
          };

          workers = optional types.ints.unsigned {
            example = 16;
            description = "Number of REP workers. 0 is the single-threaded server.";
          };

          handler =
            optional
              (types.enum [
                "reverse"
                "echo"
              ])
              {
                example = "echo";
                description = "The built-in handler.";
              };

          framing =
            optional
              (types.enum [
                "packet"
                "lines"
                "once"
              ])
              {
                example = "lines";
                description = "Framing on the program's standard input and output.";
              };

          backend = endpoints {
            example = [ "tcp://127.0.0.1:5556" ];
            description = ''
              Endpoints where REP workers in any language connect, instead of workers in this
              service. Whoever reaches them can be a worker, so {option}`services.repd.openFirewall`
              does not open their ports. The users who can connect to
              {option}`services.repd.settings.listen` in {file}`/run/repd` can also connect to
              these.
            '';
          };

          upstream = endpoints {
            example = [
              "tcp://10.0.0.1:5555"
              "tcp://10.0.0.2:5555"
            ];
            description = ''
              Endpoints of other repds to forward requests to, instead of workers in this service.
            '';
          };

          timeout = optional types.numbers.positive {
            example = 0.5;
            description = "Seconds that a request may take; then the client gets a 504.";
          };

          drain = optional types.numbers.nonnegative {
            example = 60;
            description = "Maximum number of seconds to finish the requests in flight on a stop.";
          };

          max-message-size = optional (sizeWith "kKM") {
            example = "64k";
            description = ''
              Maximum size of a request, all frames of its body together: bytes, KiB with a `k`, or
              MiB with an `M` after the number.
            '';
          };

          max-memory = optional (sizeWith "kKMG") {
            example = "16M";
            description = ''
              Maximum size of all requests and unsent replies that the service holds: bytes, MiB
              with an `M`, or GiB with a `G` after the number. The client for which most is held is
              refused first.
            '';
          };

          max-clients = optional types.ints.positive {
            example = 1000;
            description = "Maximum number of clients that are connected at a time.";
          };

          client-outstanding = optional types.ints.positive {
            example = 100;
            description = "Maximum number of requests that one client may have outstanding.";
          };

          client-rate = optional types.ints.positive {
            example = 50;
            description = "Maximum number of requests a second of one client.";
          };

          log =
            optional
              (types.enum [
                "stderr"
                "journal"
                "syslog"
              ])
              {
                example = "journal";
                description = ''
                  Destination of log lines. Standard error leads to the journal, too. With `journal`
                  lines have fields there, such as `REPD_CLIENT`.
                '';
              };
        };
      };
    };

    program = mkOption {
      type = types.listOf (types.either types.str types.path);
      default = [ ];
      apply = map (word: "${word}");
      example = lib.literalExpression "[ (lib.getExe pkgs.python3) ./words.py ]";
      description = ''
        A program that answers requests, and its arguments. Each worker keeps a copy of it, or with
        the framing `once` starts one for each request.

        It runs in the sandbox of the service. {option}`systemd.services.repd.path` adds to its
        `PATH`. A program that generates code as it runs (Node.js, Java, LuaJIT) needs
        `systemd.services.repd.serviceConfig.MemoryDenyWriteExecute = false`.
      '';
    };

    group = optional (types.strMatching "[a-zA-Z_][a-zA-Z0-9_-]*") {
      example = "repd-clients";
      description = ''
        The group of users of this machine who can connect to ipc endpoints in {file}`/run/repd`,
        such as `ipc:///run/repd/clients`. It is created if it does not exist. Without a group, only
        root and the service's own user can connect. The program runs in this group too, and the
        group can use the files that it makes. An abstract endpoint, `ipc://@NAME`, is not a file:
        every user of the machine can connect to it.
      '';
    };

    keyFile = mkOption {
      type = types.nullOr (
        types.pathWith {
          absolute = true;
          inStore = false;
        }
      );
      default = null;
      example = "/var/lib/repd-key/service.key_secret";
      description = ''
        The file of the service's secret key, as {command}`repd keygen` makes it. Clients and workers
        then need keys to connect over TCP, and only those of {option}`services.repd.clients` and
        {option}`services.repd.backendClients` are served.

        It may be for root alone: systemd hands it to the service. It must not be in the Nix store,
        which everybody can read.
      '';
    };

    clients = clientList {
      example = {
        pump-7 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
        pump-8 = [
          "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6 rate=50"
          "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7 until=2027-03-31"
        ];
      };
      description = ''
        The clients that may connect, by name: the public key of each, and what it may do, as in a
        line of the list of {command}`repd serve --clients`; or several of these. With
        {option}`services.repd.keyFile`; if it is empty, nobody is served over TCP.

        A change of this alone does not restart the service: it reads its lists again.
      '';
    };

    backendClients = clientList {
      example.worker-1 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
      description = ''
        The workers that may connect to {option}`services.repd.settings.backend` over TCP, likewise.
      '';
    };

    allowAnyone = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether anybody who reaches the service may be served, without a key. Otherwise, and unless
        {option}`services.repd.settings.listen` says where, a service without a key listens for
        this machine alone; and {option}`services.repd.openFirewall` is refused.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to open the ports of {option}`services.repd.settings.listen` that other machines can
        reach. It takes {option}`services.repd.keyFile`, or {option}`services.repd.allowAnyone`.

        They are opened on every network interface, even if an endpoint names one interface or
        address. To open a port only on some interfaces, leave this out and use
        {option}`networking.firewall.interfaces.<name>.allowedTCPPorts`.
      '';
    };

    environmentFile =
      let
        file = types.pathWith {
          absolute = true;
          inStore = false;
        };
      in
      mkOption {
        # One file, or null for none, as in version 0.1.
        type = types.coercedTo (types.nullOr file) (one: lib.optional (one != null) one) (
          types.listOf file
        );
        default = [ ];
        example = [ "/run/secrets/repd" ];
        description = ''
          Files of `NAME=value` lines that are added to the environment of the service and of the
          program. This is the place for secrets: the Nix store is not.
        '';
      };

    checkConfig = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalMD "whether the machine that builds can run what it builds";
      example = false;
      description = ''
        Whether {command}`repd serve --check` checks the settings when the system is built, with
        endpoints of the building machine. What it cannot check there, the service checks at its
        start.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions =
      lib.concatMap wellFormed [
        "listen"
        "backend"
        "upstream"
      ]
      ++ map onePlace settings.upstream
      ++ [
        (excludes "upstream" "backend")
        (excludes "handler" "program")
        {
          assertion = isGiven "framing" -> isGiven "program";
          message = "services.repd: cannot use framing without a program; set program, or leave framing out.";
        }
        {
          assertion = lib.allUnique (
            lib.filter (place: place != { } && place.port or null != 0) (listen ++ backend ++ upstream)
          );
          message = "services.repd: an endpoint is given twice in listen, backend and upstream; give each once.";
        }
        {
          assertion = lib.all (name: settings.${name} or null != true) [
            "check"
            "help"
          ];
          message = "services.repd.settings: a service does not run with check or help; leave them out, and see checkConfig.";
        }
        {
          assertion = settings.multipart or null == true -> isGiven "program";
          message = "services.repd: cannot use multipart without a program; set program, or leave multipart out.";
        }
        {
          assertion = settings.max-outstanding or null != null -> isGiven "backend" || isGiven "upstream";
          message = "services.repd: cannot use max-outstanding with workers of this process; set backend or upstream, or leave it out.";
        }
        {
          assertion = settings.log-format or null == "json" -> lib.elem settings.log [
            null
            "stderr"
          ];
          message = "services.repd: cannot use log-format json with another log than stderr; leave out one of them.";
        }
        {
          assertion = cfg.openFirewall -> hasKey || cfg.allowAnyone;
          message = "services.repd: openFirewall lets everybody who reaches this machine be served; set keyFile and clients, or allowAnyone.";
        }
        {
          assertion = cfg.clients != { } || cfg.backendClients != { } -> hasKey;
          message = "services.repd: cannot use clients without a key; set keyFile, or leave them out.";
        }
        {
          assertion = hasKey && lib.any isTcp backend -> cfg.backendClients != { };
          message = "services.repd: with keyFile, workers that connect over TCP need keys; set backendClients.";
        }
        {
          assertion =
            lib.all (name: settings.${name} or null == null) [
              "key"
              "clients"
              "backend-clients"
            ]
            || !hasKey;
          message = "services.repd.settings: cannot use key, clients or backend-clients with keyFile; leave them out.";
        }
        {
          assertion = lib.all (name: builtins.match "[a-zA-Z0-9_.@-]{1,64}" name != null) (
            lib.attrNames (cfg.clients // cfg.backendClients)
          );
          message = "services.repd.clients: a name has up to 64 letters, digits and -_.@.";
        }
        {
          assertion = cfg.openFirewall -> !lib.elem 0 openPorts;
          message = "services.repd: cannot open a port that the system chooses; give a number in listen, or leave openFirewall out.";
        }
        {
          assertion = cfg.group != "repd";
          message = "services.repd.group: repd is the name that systemd gives the service's own user and group; give another one.";
        }
      ]
      ++ lib.mapCartesianProduct ({ ours, theirs }: excludes ours theirs) {
        ours = [
          "handler"
          "program"
          "workers"
          "framing"
        ];
        theirs = [
          "backend"
          "upstream"
        ];
      };

    environment.systemPackages = [ cfg.package ];

    environment.etc = lib.mapAttrs' (
      name: clients: lib.nameValuePair "repd/${name}" { text = toList clients; }
    ) lists;

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall openPorts;

    system.checks = mkIf cfg.checkConfig [
      (pkgs.runCommand "repd-check" { } check)
    ];

    users.groups = mkIf (cfg.group != null) { ${cfg.group} = { }; };

    systemd.packages = [ cfg.package ];
    # Only what differs from the package's own unit.
    systemd.services.repd = {
      wantedBy = [ "multi-user.target" ];
      wants = mkIf needsNetwork [ "network-online.target" ];
      after = mkIf needsNetwork [ "network-online.target" ];
      # Restart the service at the end of a switch, instead of stopping it for the whole switch.
      stopIfChanged = false;
      reloadTriggers = map (name: config.environment.etc."repd/${name}".source) (lib.attrNames lists);
      serviceConfig = {
        # The empty value first removes /etc/default/repd, which the package's unit reads elsewhere.
        EnvironmentFile = lib.mkMerge [
          (lib.mkBefore [ "" ])
          cfg.environmentFile
        ];
        ExecStart = [
          ""
          (
            utils.escapeSystemdExecArgs (commandLine settings [ ])
            + access
            + lib.optionalString (cfg.program != [ ]) (
              " " + utils.escapeSystemdExecArgs (withProgram cfg.program)
            )
          )
        ];
        LoadCredential = mkIf hasKey "key:${cfg.keyFile}";
        TimeoutStopSec = mkIf (settings.drain != null) (builtins.ceil settings.drain + 10);
      }
      // lib.optionalAttrs (cfg.group != null) {
        Group = cfg.group;
        RuntimeDirectoryMode = "0750";
        # To connect, a user must be able to write to the socket.
        UMask = "0007";
      }
      // lib.optionalAttrs bindsPrivilegedPort {
        AmbientCapabilities = "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
        # With PrivateUsers= the capability would not hold for the network of the host.
        PrivateUsers = false;
      };
    };
  };
}
