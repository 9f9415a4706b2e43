# repd for the package set that calls this: native, static, or for another machine.
{
  lib,
  stdenv,
  buildPackages,
  installShellFiles,
  iproute2,
  libsodium,
  rustPlatform,
  util-linux,
}:
let
  inherit (lib) fileset;
  manifest = (lib.importTOML ../Cargo.toml).package;
  inherit (stdenv) buildPlatform hostPlatform;

  # libzmq takes libsodium as an archive, which nixpkgs builds for static package sets alone.
  sodium = libsodium.overrideAttrs { dontDisableStatic = true; };
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = manifest.name;
  inherit (manifest) version;

  src = fileset.toSource {
    root = ../.;
    fileset = fileset.unions [
      ../Cargo.lock
      ../Cargo.toml
      ../LICENSE-APACHE
      ../LICENSE-MIT
      ../README.md
      ../benches
      ../examples
      ../packaging/repd.1
      ../packaging/repd.service
      ../rustfmt.toml
      ../src
      (fileset.fileFilter (file: file.hasExt "rs") ../tests)
      ../tests/pyzmq_clients.py
      ../zmq-sys
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  strictDeps = true;
  nativeBuildInputs = [ installShellFiles ];
  # Some tests run `cc` by that name, which a cross compiler does not have.
  depsBuildBuild = lib.optional finalAttrs.doCheck buildPackages.stdenv.cc;

  env = {
    SODIUM_LIB_DIR = "${lib.getLib sodium}/lib";
    SODIUM_INCLUDE_DIR = "${lib.getDev sodium}/include";
  }
  // lib.optionalAttrs (hostPlatform.isAarch64 && hostPlatform.isMusl) {
    # libgcc's choice of atomics at run time wants glibc's __getauxval: NixOS/nixpkgs#264687.
    NIX_CFLAGS_COMPILE = "-mno-outline-atomics";
  };

  doCheck = buildPlatform.canExecute hostPlatform;
  # Link-time optimisation of twenty test programs takes longer than the tests.
  checkType = "debug";
  nativeCheckInputs = [
    iproute2
    util-linux
    (buildPackages.python3.withPackages (python: [ python.pyzmq ]))
  ];
  # The sandbox has no /usr/bin/env.
  preCheck = ''
    patchShebangs --build examples
    substituteInPlace tests/misbehaving.rs --replace-fail /usr/bin/env "$(type -p env)"
  '';

  postInstall = ''
    installManPage packaging/repd.1
    install -Dm644 -t $out/lib/systemd/system packaging/repd.service
    substituteInPlace $out/lib/systemd/system/repd.service --replace-fail /usr/bin/repd $out/bin/repd
  '';

  meta = {
    inherit (manifest) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "repd";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
})
