# Makes an SD card of a configuration, for 64-bit ARM boards (Raspberry Pi 3 and 4, and boards that
# boot with U-Boot), with a console at the serial port.
{ lib, modulesPath, ... }:
{
  imports = [ "${modulesPath}/installer/sd-card/sd-image-aarch64.nix" ];

  # Leave out the installer's tools and file systems: some cannot be cross-compiled.
  disabledModules = [ "profiles/base.nix" ];

  boot.loader.generic-extlinux-compatible.configurationLimit = 3;
  # Wired Ethernet needs none; wireless does.
  hardware.enableRedistributableFirmware = lib.mkForce false;
}
