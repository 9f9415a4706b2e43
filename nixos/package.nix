# repd for the package set that calls this: native, static, or for another machine.
{
  lib,
  stdenv,
  clippy,
  installShellFiles,
  iproute2,
  iptables,
  libsodium,
  python3,
  rustPlatform,
  util-linux,
  versionCheckHook,
}:
let
  inherit (lib) fileset;
  manifest = (lib.importTOML ../Cargo.toml).package;
  inherit (stdenv) hostPlatform;

  sources = [
    ../Cargo.lock
    ../Cargo.toml
    ../LICENSE-APACHE
    ../LICENSE-MIT
    ../README.md
    ../benches
    ../build.rs
    ../packaging/instance.sed
    ../packaging/repd.1
    ../packaging/repd.service
    ../src
    ../zmq-sys
  ];
  tests = [
    ../CHANGELOG.md
    ../CONTRIBUTING.md
    ../SECURITY.md
    ../docs
    ../examples
    ../fuzz/README.md
    ../fuzz/seeds
    ../rustfmt.toml
    (fileset.fileFilter (file: file.hasExt "rs" || file.hasExt "py") ../tests)
  ];
  source =
    files:
    fileset.toSource {
      root = ../.;
      fileset = fileset.unions files;
    };

  # libzmq needs libsodium as an archive, which nixpkgs builds only for static package sets.
  sodium = libsodium.overrideAttrs { dontDisableStatic = true; };
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = manifest.name;
  inherit (manifest) version;

  src = source sources;
  cargoLock.lockFile = ../Cargo.lock;

  strictDeps = true;
  nativeBuildInputs = [ installShellFiles ];

  env = {
    SODIUM_LIB_DIR = "${lib.getLib sodium}/lib";
    SODIUM_INCLUDE_DIR = "${lib.getDev sodium}/include";
  }
  // lib.optionalAttrs (hostPlatform.isAarch64 && hostPlatform.isMusl) {
    # rustc links libc before libgcc. libgcc's choice of atomics at run time needs getauxval, which
    # the linker no longer finds then: NixOS/nixpkgs#264687.
    NIX_CFLAGS_COMPILE = "-mno-outline-atomics";
  };

  # nixpkgs' hook turns off the strip of Cargo.toml and leaves it to the fixup, which keeps the
  # symbols.
  stripAllList = [ "bin" ];

  postInstall = ''
    installManPage packaging/repd.1
    install -Dm644 -t $out/lib/systemd/system packaging/repd.service
    sed --file packaging/instance.sed packaging/repd.service >$out/lib/systemd/system/repd@.service
    substituteInPlace $out/lib/systemd/system/repd{,@}.service --replace-fail /usr/bin/repd $out/bin/repd
  '';

  # Only checks that repd runs. The tests are a separate build, so that nobody waits for them.
  doCheck = false;
  doInstallCheck = true;
  nativeInstallCheckInputs = [ versionCheckHook ];
  versionCheckProgramArg = "--version";
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/repd serve --check --listen ipc://clients
    $out/bin/repd serve --listen ipc://clients &
    # End the service even if there is no reply.
    reply=$($out/bin/repd call --timeout 0.5 --retries 60 ipc://clients hello) || true
    kill $!
    wait $!
    [ "$reply" = olleh ]
    runHook postInstallCheck
  '';

  passthru.tests = {
    suite = finalAttrs.finalPackage.overrideAttrs {
      pname = "repd-suite";
      src = source (sources ++ tests);
      dontCargoBuild = true;
      doCheck = true;
      # Link-time optimisation of twenty test programs takes longer than the tests.
      cargoCheckType = "debug";
      nativeCheckInputs = [
        iproute2
        iptables
        util-linux
        (python3.withPackages (python: [ python.pyzmq ]))
      ];
      # The sandbox has no /usr/bin/env.
      preCheck = "patchShebangs --build examples";
      installPhase = "mkdir $out";
      doInstallCheck = false;
    };

    clippy = finalAttrs.finalPackage.overrideAttrs (old: {
      pname = "repd-clippy";
      src = source (sources ++ tests);
      nativeBuildInputs = old.nativeBuildInputs ++ [ clippy ];
      buildPhase = "cargo clippy --offline --all-targets -- -D warnings";
      installPhase = "mkdir $out";
      doInstallCheck = false;
    });
  };

  meta = {
    inherit (manifest) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "repd";
    maintainers = [
      {
        name = "The repd authors";
        email = "repd@repd.example";
      }
    ];
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
      "armv7l-linux"
    ];
  }
  # Once the project has an address, Cargo.toml names it.
  // lib.optionalAttrs (manifest ? homepage) {
    inherit (manifest) homepage;
    changelog = "${manifest.homepage}/blob/v${manifest.version}/CHANGELOG.md";
  };
})
