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

  parse = import ./endpoint.nix { inherit lib; };
  listen =
    if cfg.listen == [ ] then
      [
        {
          host = "*";
          port = import ./default-port.nix { inherit lib; };
        }
      ]
    else
      map parse cfg.listen;
  backend = map parse cfg.backend;
  upstream = map parse cfg.upstream;
  isReachable =
    place: place ? port && builtins.match "localhost|lo|127\\..*|\\[::1]" place.host == null;
  openPorts = map (place: place.port) (lib.filter isReachable listen);

  bindsPrivilegedPort = lib.any (place: place ? port && place.port > 0 && place.port < 1024) (
    listen ++ backend
  );
  bindsFile = lib.any (place: place ? path && !lib.hasPrefix "@" place.path) listen;

  # What is not set is not passed: the defaults are repd's.
  commandLine =
    mode: settings:
    let
      option =
        name: value:
        lib.optionals (value != null) [
          "--${name}"
          value
        ];
      each = name: lib.concatMap (option name);
    in
    [
      (lib.getExe cfg.package)
      "serve"
    ]
    ++ mode
    ++ each "listen" settings.listen
    ++ option "workers" settings.workers
    ++ option "handler" settings.handler
    ++ option "framing" settings.framing
    ++ each "backend" settings.backend
    ++ each "upstream" settings.upstream
    ++ option "timeout" settings.timeout
    ++ option "drain" settings.drain
    ++ option "max-message-size" settings.maxMessageSize
    ++ option "log" settings.logTarget
    ++ settings.extraArgs
    ++ lib.optionals (settings.program != [ ]) ([ "--" ] ++ settings.program);

  checkOf = commandLine [ "--check" ];

  # The machine that builds has other addresses, and other programs on its PATH: what is always there
  # stands in for them.
  buildable =
    let
      isBuilt = lib.hasPrefix "${builtins.storeDir}/" (lib.head cfg.program);
    in
    cfg
    // {
      listen = [ "tcp://127.0.0.1:*" ];
      backend = map (_: "tcp://127.0.0.1:*") cfg.backend;
      upstream = lib.imap1 (number: _: "tcp://127.0.0.1:${toString number}") cfg.upstream;
    }
    // lib.optionalAttrs (cfg.program != [ ] && !isBuilt) { program = [ (lib.getExe cfg.package) ]; };

  # What follows from these would not be seen.
  misplaced = lib.intersectLists cfg.extraArgs [
    "--"
    "--backend"
    "--check"
    "--drain"
    "--framing"
    "--handler"
    "--listen"
    "--log"
    "--max-message-size"
    "--timeout"
    "--upstream"
    "--workers"
  ];

  isGiven = name: cfg.${name} != null && cfg.${name} != [ ];
  notBeside = one: other: {
    assertion = !(isGiven one && isGiven other);
    message = "services.repd: cannot use ${one} beside ${other}; leave out one of them.";
  };
  wellFormed =
    name:
    map (text: {
      assertion = parse text != { };
      message =
        "services.repd.${name}: ${builtins.toJSON text} is no endpoint; give tcp://HOST:PORT, "
        + "with a port from 1 to 65535 or * for any, or ipc://PATH with at most 107 bytes.";
    }) cfg.${name};
  onePlace = text: {
    assertion = (parse text).host or null != "*" && (parse text).port or null != 0;
    message = "services.repd.upstream: ${builtins.toJSON text} is no one place; name a host and a port.";
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
  endpoints =
    attributes:
    mkOption (
      {
        type = types.listOf types.str;
        default = [ ];
      }
      // attributes
    );
in
{
  options.services.repd = {
    enable = lib.mkEnableOption ''
      repd, a ZeroMQ request-reply server. Options that are not set keep the defaults of repd itself,
      which are in {manpage}`repd(1)`'';

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "the repd that this module came with";
      example = lib.literalExpression "pkgs.repd";
      description = "The repd to run.";
    };

    listen = endpoints {
      example = [
        "tcp://*:5555"
        "ipc:///run/repd/clients"
      ];
      description = ''
        Endpoints where clients connect, `tcp://HOST:PORT` or `ipc://PATH`.

        The service can make files in {file}`/run/repd`, and every user of the machine can connect to
        them (by an umask of 0000, which a program has too). A port below 1024 gives it the capability
        that this takes.
      '';
    };

    workers = optional types.ints.unsigned {
      example = 16;
      description = "REP workers. 0 is the single-threaded server.";
    };

    handler =
      optional
        (types.enum [
          "reverse"
          "echo"
        ])
        {
          example = "echo";
          description = "What answers, of what comes with repd.";
        };

    program = mkOption {
      type = types.listOf (types.either types.str types.path);
      default = [ ];
      apply = map (word: "${word}");
      example = lib.literalExpression "[ (lib.getExe pkgs.python3) ./words.py ]";
      description = ''
        A program that answers, and its arguments; each worker keeps a copy of it, or with `once` as the
        framing starts one for each request.

        It runs with the confinement of the service. {option}`systemd.services.repd.path` adds to its
        `PATH`. One that makes code as it runs (Node.js, Java, LuaJIT) needs
        `systemd.services.repd.serviceConfig.MemoryDenyWriteExecute = false`.
      '';
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
          description = "How the program is spoken to on its standard input and output.";
        };

    backend = endpoints {
      example = [ "tcp://127.0.0.1:5556" ];
      description = ''
        Endpoints where REP workers of any language connect and answer, in place of workers of this
        service. Whoever reaches them can be a worker: {option}`services.repd.openFirewall` does not
        open their ports, and their files in {file}`/run/repd` are the service's alone, unless there is
        one in {option}`services.repd.listen` too.
      '';
    };

    upstream = endpoints {
      example = [
        "tcp://10.0.0.1:5555"
        "tcp://10.0.0.2:5555"
      ];
      description = "Endpoints of other repds that requests go on to, in place of workers of this service.";
    };

    timeout = optional types.numbers.positive {
      example = 0.5;
      description = "Seconds that a request may take.";
    };

    drain = optional types.numbers.nonnegative {
      example = 60;
      description = "Seconds that a stop may take, to finish the requests in flight.";
    };

    maxMessageSize = optional (types.either types.ints.positive (types.strMatching "[0-9]+[kKM]?")) {
      example = "64k";
      description = "The largest frame: bytes, KiB with a `k`, MiB with an `M` behind the number.";
    };

    logTarget =
      optional
        (types.enum [
          "stderr"
          "syslog"
        ])
        {
          example = "syslog";
          description = "Where log lines go; standard error is the journal.";
        };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to open the ports of {option}`services.repd.listen` that other machines can reach.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "--retries"
        "1"
      ];
      description = "Further options of {command}`repd serve`; see {manpage}`repd(1)`.";
    };

    environmentFile =
      optional
        (types.pathWith {
          absolute = true;
          inStore = false;
        })
        {
          example = "/run/secrets/repd";
          description = ''
            A file of `NAME=value` lines that are added to the environment, which the program has too:
            the place for secrets, which the Nix store is not.
          '';
        };

    checkConfig = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalMD "whether the machine that builds can run what it builds";
      example = false;
      description = ''
        Whether {command}`repd serve --check` looks at the options when the system is built, with
        endpoints of the building machine. Otherwise it does so before each start of the service.
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
      ++ map onePlace cfg.upstream
      ++ [
        (notBeside "upstream" "backend")
        (notBeside "handler" "program")
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
          assertion = misplaced == [ ];
          message = "services.repd.extraArgs: cannot use ${lib.concatStringsSep ", " misplaced} there; set the module's options for that.";
        }
        {
          assertion = cfg.openFirewall -> !lib.elem 0 openPorts;
          message = "services.repd: cannot open a port that the system chooses; give a number in listen, or leave openFirewall out.";
        }
      ]
      ++ lib.mapCartesianProduct ({ ours, theirs }: notBeside ours theirs) {
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

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall openPorts;

    system.checks = mkIf cfg.checkConfig [
      (pkgs.runCommand "repd-check" { } "${lib.escapeShellArgs (checkOf buildable)} >$out")
    ];

    systemd.packages = [ cfg.package ];
    # Only what the package's own unit does not say.
    systemd.services.repd = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        ExecStart = [
          ""
          (utils.escapeSystemdExecArgs (commandLine [ ] cfg))
        ];
        ExecStartPre = mkIf (!cfg.checkConfig) (utils.escapeSystemdExecArgs (checkOf cfg));
        EnvironmentFile = mkIf (cfg.environmentFile != null) cfg.environmentFile;
        TimeoutStopSec = mkIf (cfg.drain != null) (builtins.ceil cfg.drain + 10);
        # Other users connect by writing to the socket.
        UMask = mkIf bindsFile "0000";
      }
      // lib.optionalAttrs bindsPrivilegedPort {
        AmbientCapabilities = "CAP_NET_BIND_SERVICE";
        CapabilityBoundingSet = "CAP_NET_BIND_SERVICE";
        # A capability counts in the namespace of the network, which is not one of its own users.
        PrivateUsers = false;
      };
    };
  };
}
