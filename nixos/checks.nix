# What `nix flake check` looks at beside the packages and the virtual machines.
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
in
{
  clippy = repd.overrideAttrs (old: {
    pname = "repd-clippy";
    nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
    buildPhase = "cargo clippy --offline --all-targets -- -D warnings";
    doCheck = false;
    installPhase = "mkdir $out";
  });

  fmt =
    runCommand "repd-fmt"
      {
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        cd ${repd.src}
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

  # `nix eval --json .#checks.SYSTEM.units.told` has what it compares, and builds nothing.
  units =
    let
      told = import ../tests/units { inherit lib nixosSystem module; };
      golden = lib.fileset.toSource {
        root = ../tests/units;
        fileset = lib.fileset.difference ../tests/units ../tests/units/default.nix;
      };
      files = pkgs.linkFarm "repd-units-told" (lib.mapAttrs pkgs.writeText told);
    in
    runCommand "repd-units" { passthru = { inherit told; }; } ''
      diff -ru ${golden} ${files}
      mkdir $out
    '';
}
