# Makes a configuration an SD card for 64-bit ARM boards (Raspberry Pi 3 and 4 and what boots by U-Boot), with
# a console at the serial port.
{ lib, modulesPath, ... }:
{
  imports = [ "${modulesPath}/installer/sd-card/sd-image-aarch64.nix" ];

  # The installer's tools and file systems; not all of them can be built on another machine.
  disabledModules = [ "profiles/base.nix" ];

  boot.loader.generic-extlinux-compatible.configurationLimit = 3;
  # Wired Ethernet needs none; wireless does.
  hardware.enableRedistributableFirmware = lib.mkForce false;
}
