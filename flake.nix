{
  description = "repd, a ZeroMQ request-reply server";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      repd = pkgs: pkgs.callPackage ./nixos/package.nix { };
    in
    {
      packages = forAllSystems (
        pkgs:
        {
          default = repd pkgs;
          static = repd pkgs.pkgsStatic;
          oci-image = pkgs.callPackage ./nixos/oci-image.nix { repd = repd pkgs.pkgsStatic; };
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isx86_64 {
          static-aarch64 = repd pkgs.pkgsCross.aarch64-multiplatform.pkgsStatic;
          static-armv7 = repd pkgs.pkgsCross.armv7l-hf-multiplatform.pkgsStatic;
          sd-image-aarch64 =
            let
              edge = self.nixosConfigurations.edge.extendModules {
                modules = [ { nixpkgs.buildPlatform = "x86_64-linux"; } ];
              };
            in
            edge.config.system.build.sdImage;
        }
      );

      apps = forAllSystems (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (repd pkgs);
          meta = { inherit ((repd pkgs).meta) description; };
        };
      });

      overlays.default = final: _: { repd = repd final; };

      nixosModules.default = ./nixos/module.nix;

      nixosConfigurations.edge = lib.nixosSystem {
        modules = [
          self.nixosModules.default
          ./nixos/edge.nix
          ./nixos/sd-image.nix
          { nixpkgs.hostPlatform = "aarch64-linux"; }
        ];
      };

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          # With cargo, and what the tests run.
          inputsFrom = [ (repd pkgs).tests.suite ];
          env = { inherit (repd pkgs) SODIUM_INCLUDE_DIR SODIUM_LIB_DIR; };
          packages = [
            pkgs.clippy
            pkgs.deadnix
            pkgs.nixfmt-tree
            pkgs.rust-analyzer
            pkgs.rustfmt
          ];
        };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);

      # The other packages are built with a compiler, a libc or a kernel that no binary cache has.
      checks = forAllSystems (
        pkgs:
        {
          package = repd pkgs;
        }
        // import ./nixos/checks.nix {
          inherit pkgs;
          inherit (lib) nixosSystem;
          repd = repd pkgs;
          module = self.nixosModules.default;
        }
        // import ./tests/vm {
          inherit pkgs;
          module = self.nixosModules.default;
        }
      );
    };
}
