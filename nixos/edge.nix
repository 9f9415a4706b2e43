# An appliance that does nothing but answer: a small NixOS to start from. What is of its hardware is in
# sd-image.nix.
{ modulesPath, ... }:
{
  imports = [ "${modulesPath}/profiles/minimal.nix" ];

  services.repd = {
    enable = true;
    openFirewall = true;
    # program = [ ./answer ];
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

  # Nothing that grows: the journal stays in memory, which spares the card too.
  services.journald.storage = "volatile";
  nix.gc = {
    automatic = true;
    options = "--delete-older-than 30d";
  };
  # The source of nixpkgs is as large as the rest of the system.
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  nix.channel.enable = false;

  system.stateVersion = "26.05";
}
