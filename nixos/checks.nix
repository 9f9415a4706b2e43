# The checks of `nix flake check` besides the package and the virtual machines.
{
  pkgs,
  repd,
  nixosSystem,
  module,
}:
let
  inherit (pkgs) lib runCommand;
  ofNix = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };
  units = import ../tests/units {
    inherit lib nixosSystem module;
    inherit (pkgs.stdenv.hostPlatform) system;
  };
in
{
  tests = repd.tests.suite;

  inherit (repd.tests) clippy;

  fmt =
    runCommand "repd-fmt"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        cd ${repd.tests.suite.src}
        cargo fmt --check
        mkdir $out
      '';

  nix-fmt =
    runCommand "repd-nix-fmt"
      {
        nativeBuildInputs = [
          pkgs.deadnix
          pkgs.nixfmt
        ];
      }
      ''
        find ${ofNix} -name '*.nix' -exec nixfmt --check {} +
        deadnix --fail ${ofNix}
        mkdir $out
      '';

  # `nix eval --json .#checks.SYSTEM.units.told` prints what is compared, and builds nothing.
  units =
    let
      golden = lib.fileset.toSource {
        root = ../tests/units;
        fileset = lib.fileset.difference ../tests/units ../tests/units/default.nix;
      };
      files = pkgs.linkFarm "repd-units-told" (lib.mapAttrs pkgs.writeText units.told);
    in
    runCommand "repd-units" { passthru = { inherit (units) told; }; } ''
      diff -ru ${golden} ${files}
      mkdir $out
    '';

  # The build-time check of each configuration, with the packages of this system.
  settings = pkgs.linkFarm "repd-settings" units.checks;
}
