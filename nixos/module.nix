{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.repd;
  options = import ./options.nix { inherit lib pkgs; };

  serverOf = import ./server.nix {
    inherit
      config
      lib
      pkgs
      utils
      ;
    inherit (cfg) package;
  };
  servers =
    lib.optional cfg.enable (serverOf null cfg)
    ++ lib.mapAttrsToList serverOf (lib.filterAttrs (_: server: server.enable) cfg.servers);
  # What each of them needs of one kind.
  all = kind: lib.mkMerge (map (server: server.${kind}) servers);

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

  options.services.repd = options // {
    enable = lib.mkEnableOption "repd, a ZeroMQ request-reply server. {command}`repd` and its manual are then on the PATH too";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalMD "the repd that this module came with";
      example = lib.literalExpression "pkgs.repd";
      description = "The repd to run.";
    };

    servers = mkOption {
      default = { };
      example.blue.settings.listen = [ "tcp://127.0.0.1:5556" ];
      description = ''
        More services of this machine, by name, each with the options of {option}`services.repd`
        itself but for {option}`services.repd.package`. NAME runs as {command}`repd@NAME.service`,
        with {file}`/run/repd-NAME` in the place of {file}`/run/repd`.
      '';
      type = types.attrsOf (
        types.submodule {
          options = options // {
            enable = mkOption {
              type = types.bool;
              default = true;
              example = false;
              description = "Whether it runs.";
            };
          };
        }
      );
    };
  };

  config = lib.mkIf (servers != [ ]) {
    assertions = lib.concatMap (server: server.assertions) servers;
    environment.systemPackages = [ cfg.package ];
    environment.etc = all "etc";
    networking.firewall.allowedTCPPorts = lib.concatMap (server: server.ports) servers;
    system.checks = lib.concatMap (server: server.checks) servers;
    users.groups = all "groups";
    systemd.packages = [ cfg.package ];
    systemd.services = all "services";
    systemd.sockets = all "sockets";
  };
}
