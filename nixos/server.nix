# What one service needs of NixOS: the name is that of `services.repd.servers`, or null for `services.repd` itself.
{
  config,
  lib,
  pkgs,
  utils,
  package,
}:
name: cfg:
let
  inherit (lib) mkIf;
  settings = cfg.settings // {
    status =
      if cfg.settings.status == null then
        "ipc:///run/${runtime}/status"
      else if cfg.settings.status == "" then
        null
      else
        cfg.settings.status;
  };

  option = if name == null then "services.repd" else "services.repd.servers.${name}";
  # An instance of the package's repd@.service.
  unit = if name == null then "repd" else "repd@${name}";
  folder = if name == null then "repd" else "repd/${name}";
  runtime = if name == null then "repd" else "repd-${name}";

  parse = import ./endpoint.nix { inherit lib; };
  defaultPort = import ./default-port.nix { inherit lib; };
  hasKey = cfg.keyFile != null;
  # systemd listens.
  isActivated = cfg.socketActivation;
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
  status = lib.optional (settings.status != null) (parse settings.status);

  isTcp = place: place ? port;
  isLoopback = place: builtins.match "localhost|lo|127\\..*|\\[::1]" place.host != null;
  isEveryAddress = place: builtins.match "\\*|0\\.0\\.0\\.0|\\[::]" place.host != null;
  isAddress = place: builtins.match "[0-9.]+|\\[.*]" place.host != null;

  reachedPorts =
    places: map (place: place.port) (lib.filter (place: isTcp place && !isLoopback place) places);
  openPorts = reachedPorts listen;
  bindsPrivilegedPort = lib.any (place: isTcp place && place.port > 0 && place.port < 1024) (
    lib.optionals (!isActivated) listen ++ backend ++ status
  );
  # An address of this machine may be assigned late. (The name of an upstream is looked up again and again.)
  needsNetwork = lib.any (place: isTcp place && !isLoopback place && !isEveryAddress place) (
    lib.optionals (!isActivated) listen ++ backend ++ status
  );

  # Only what is set is passed, so that the defaults are repd's own.
  commandLine =
    settings: program:
    [
      (lib.getExe package)
      "serve"
    ]
    ++ lib.cli.toCommandLine (name: {
      option = "--${name}";
      # Older versions of repd do not read --name=value.
      sep = null;
      explicitBool = false;
    }) (settings // lib.optionalAttrs isActivated { listen = [ "fd://clients" ]; })
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
    + lib.concatMapStrings (name: " --${name} /etc/${folder}/${name}") (lib.attrNames lists)
    + lib.optionalString (isLocal && !isActivated) " --listen tcp://127.0.0.1:${toString defaultPort}";

  # The machine that builds has other addresses, no log daemon, no key, and other programs on its PATH.
  # So the check uses stand-ins that exist everywhere.
  check =
    let
      isBuilt = lib.hasPrefix "${builtins.storeDir}/" (lib.head cfg.program);
      repd = lib.getExe package;
      program = if cfg.program == [ ] || isBuilt then cfg.program else [ repd ];
      key = lib.optionalString hasKey "${repd} keygen service >/dev/null";
      access = lib.optionals hasKey (
        [
          "--key"
          "service.key_secret"
        ]
        ++ lib.concatMap (name: [
          "--${name}"
          config.environment.etc."${folder}/${name}".source
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
    status = null;
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
    message = "${option}: cannot use ${one} with ${other}; leave out one of them.";
  };
  wellFormed =
    name:
    map (text: {
      assertion =
        parse text != { }
        && (name == "upstream" || !(parse text ? srv))
        && (
          lib.elem name [
            "listen"
            "backend"
          ]
          || !(parse text ? socket)
        );
      message =
        "${option}.settings.${name}: ${builtins.toJSON text} is not an endpoint; give tcp://HOST:PORT, "
        + "with a port from 1 to 65535 or * for any, or ipc://PATH with at most 107 bytes.";
    }) (lib.toList settings.${name});
  onePlace = text: {
    assertion = (parse text).host or null != "*" && (parse text).port or null != 0;
    message = "${option}.settings.upstream: ${builtins.toJSON text} is not one address; name a host and a port.";
  };

  # Where systemd listens.
  address =
    place:
    if place.host == "*" then
      "0.0.0.0:${toString place.port}"
    else
      "${place.host}:${toString place.port}";
in
{
  assertions =
    lib.concatMap wellFormed [
      "listen"
      "backend"
      "upstream"
    ]
    ++ lib.optionals (settings.status != null) (wellFormed "status")
    ++ map onePlace settings.upstream
    ++ [
      (excludes "upstream" "backend")
      (excludes "handler" "program")
      {
        assertion = isGiven "framing" -> isGiven "program";
        message = "${option}: cannot use framing without a program; set program, or leave framing out.";
      }
      {
        assertion = lib.allUnique (
          lib.filter (place: place != { } && place.port or null != 0) (
            listen ++ backend ++ upstream ++ status
          )
        );
        message = "${option}: an endpoint is given twice in listen, backend, upstream and status; give each once.";
      }
      {
        assertion = lib.all (name: settings.${name} or null != true) [
          "check"
          "help"
        ];
        message = "${option}.settings: a service does not run with check or help; leave them out, and see checkConfig.";
      }
      {
        assertion = settings.multipart or null == true -> isGiven "program";
        message = "${option}: cannot use multipart without a program; set program, or leave multipart out.";
      }
      {
        assertion = settings.max-outstanding or null != null -> isGiven "backend" || isGiven "upstream";
        message = "${option}: cannot use max-outstanding with workers of this process; set backend or upstream, or leave it out.";
      }
      {
        assertion =
          settings.log-format or null == "json"
          -> lib.elem settings.log [
            null
            "stderr"
          ];
        message = "${option}: cannot use log-format json with another log than stderr; leave out one of them.";
      }
      {
        assertion = cfg.openFirewall -> hasKey || cfg.allowAnyone;
        message = "${option}: openFirewall lets everybody who reaches this machine be served; set keyFile and clients, or allowAnyone.";
      }
      {
        assertion = cfg.clients != { } || cfg.backendClients != { } -> hasKey;
        message = "${option}: cannot use clients without a key; set keyFile, or leave them out.";
      }
      {
        assertion = hasKey && lib.any isTcp backend -> cfg.backendClients != { };
        message = "${option}: with keyFile, workers that connect over TCP need keys; set backendClients.";
      }
      {
        assertion =
          lib.all (name: settings.${name} or null == null) [
            "key"
            "clients"
            "backend-clients"
          ]
          || !hasKey;
        message = "${option}.settings: cannot use key, clients or backend-clients with keyFile; leave them out.";
      }
      {
        assertion = lib.all (name: builtins.match "[a-zA-Z0-9_.@-]{1,64}" name != null) (
          lib.attrNames (cfg.clients // cfg.backendClients)
        );
        message = "${option}.clients: a name has up to 64 letters, digits and -_.@.";
      }
      {
        assertion =
          cfg.openStatusFirewall -> !lib.elem 0 (reachedPorts status) && reachedPorts status != [ ];
        message = "${option}: cannot open a port for the status that other machines do not reach; set settings.status to tcp://ADDRESS:PORT, or leave openStatusFirewall out.";
      }
      {
        assertion = cfg.openFirewall -> !lib.elem 0 openPorts;
        message = "${option}: cannot open a port that the system chooses; give a number in listen, or leave openFirewall out.";
      }
      {
        assertion = name == null || builtins.match "[a-zA-Z0-9_]+" name != null;
        message = "${option}: a name has letters, digits and _.";
      }
      {
        assertion = name == null || settings.listen != [ ];
        message = "${option}: say where it listens; set settings.listen.";
      }
      {
        assertion =
          isActivated -> lib.all (place: isTcp place && (isEveryAddress place || isAddress place)) listen;
        message = "${option}: with socketActivation systemd listens, at tcp://ADDRESS:PORT; give addresses in listen, or leave it out.";
      }
      {
        assertion = cfg.group != "repd";
        message = "${option}.group: repd is the name that systemd gives the service's own user and group; give another one.";
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

  etc = lib.mapAttrs' (
    name: clients: lib.nameValuePair "${folder}/${name}" { text = toList clients; }
  ) lists;

  ports =
    lib.optionals cfg.openFirewall openPorts
    ++ lib.optionals cfg.openStatusFirewall (reachedPorts status);

  checks = lib.optional cfg.checkConfig (pkgs.runCommand "repd-check" { } check);

  groups = lib.optionalAttrs (cfg.group != null) { ${cfg.group} = { }; };

  sockets = lib.optionalAttrs isActivated {
    ${unit} = {
      wantedBy = [ "sockets.target" ];
      listenStreams = map address listen;
      socketConfig = {
        FileDescriptorName = "clients";
        # An address may be assigned late.
        FreeBind = true;
        # Of IPv4 too at [::], as repd listens itself.
        BindIPv6Only = "both";
        Backlog = mkIf (settings.backlog or null != null) settings.backlog;
      };
    };
  };

  services.${unit} = {
    # Only what differs from the package's own unit.
    overrideStrategy = mkIf (name != null) "asDropin";
    wantedBy = [ "multi-user.target" ];
    wants = mkIf needsNetwork [ "network-online.target" ];
    after = mkIf needsNetwork [ "network-online.target" ];
    # Restart the service at the end of a switch, instead of stopping it for the whole switch.
    stopIfChanged = false;
    reloadTriggers = map (name: config.environment.etc."${folder}/${name}".source) (
      lib.attrNames lists
    );
    serviceConfig = {
      # So that a switch waits until the lists are read; systemd itself sends the SIGHUP.
      Type = "notify-reload";
      ExecReload = "";
      # The empty value first removes /etc/default, which the package's unit reads elsewhere.
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
}
