# The options of one service: those of `services.repd`, and of each of `services.repd.servers`.
{ lib, pkgs }:
let
  inherit (lib) mkOption types;

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
in
{
  settings = mkOption {
    default = { };
    example = {
      listen = [ "tcp://*:5555" ];
      workers = 16;
      timeout = 5;
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
          description = "Maximum number of seconds that a stop waits for what workers have.";
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

        status = optional types.str {
          example = "tcp://127.0.0.1:9155";
          description = ''
            Where the service shows how it is doing, with metrics for Prometheus at {file}`/metrics`:
            by default at `ipc:///run/repd/status`, which {command}`repd status` reads as root. An
            empty text means nowhere.
          '';
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
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7 rate=50 until=2027-03-31"
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

  openStatusFirewall = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = ''
      Whether to open the port of {option}`services.repd.settings.status`. Whoever reaches it sees
      the names and addresses of clients, and what the service does.
    '';
  };

  socketActivation = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = ''
      Whether systemd listens in the place of the service, at the TCP addresses of
      {option}`services.repd.settings.listen`: also while the service is restarted, so that nobody is
      refused. The first client starts a service that is stopped.
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
}
