# An appliance that only runs repd: a small NixOS to start from. What depends on the hardware is in
# sd-image.nix.
{
  config,
  lib,
  modulesPath,
  ...
}:
{
  imports = [ "${modulesPath}/profiles/minimal.nix" ];

  services.repd = {
    enable = true;
    openFirewall = true;
    keyFile = "/var/lib/repd-key/service.key_secret";
    # Who may connect. `repd keygen pump-7` makes the keys of a client, and prints its line.
    clients = {
      # pump-7 = "its public key";
    };
    # program = [ ./answer ];
  };

  # At the first boot the appliance makes its key. The public one, which clients need, is on the console, in the log
  # and in /var/lib/repd-key/service.key.
  systemd.services.repd-key = {
    description = "The key of repd";
    requiredBy = [ "repd.service" ];
    before = [ "repd.service" ];
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "${lib.getExe config.services.repd.package} keygen --if-missing /var/lib/repd-key/service";
      StandardOutput = "journal+console";
      StateDirectory = "repd-key";
      StateDirectoryMode = "0700";
    };
  };

  networking.hostName = "edge";
  networking.useNetworkd = true;

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
    };
  };
  # Without a key nobody can log in.
  users.users.root.openssh.authorizedKeys.keys = [ ];

  boot.bcache.enable = false;
  fonts.fontconfig.enable = false;
  programs.nano.enable = false;
  security.sudo.enable = false;
  services.lvm.enable = false;

  # Keep the journal in memory: it does not fill the card or wear it out.
  services.journald.storage = "volatile";
  nix.gc = {
    automatic = true;
    options = "--delete-older-than 30d";
  };
  # Leave out the source of nixpkgs: it is as large as the rest of the system.
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  nix.channel.enable = false;

  system.stateVersion = "26.05";
}
