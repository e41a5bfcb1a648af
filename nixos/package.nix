# The programs, units, D-Bus and polkit files, completions and manual pages of Peernix. For `callPackage`.
{
  lib,
  rustPlatform,
  systemd,
}: let
  manifest = lib.importTOML ../Cargo.toml;
in
  rustPlatform.buildRustPackage {
    pname = manifest.package.name;
    inherit (manifest.package) version;

    # What is built and installed, and nothing else, so that a change of a test or a note builds nothing anew.
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        ../Cargo.toml
        ../Cargo.lock
        ../.cargo/config.toml
        # Cargo.toml names a file in each of these.
        ../benches
        ../examples
        ../tests
        ../src
        ../Makefile
        ../scripts
        ../systemd
        ../monitoring
        ../dbus
        ../varlink
        ../docs
        ../README.md
        ../CHANGELOG.md
        ../LICENSE-APACHE
        ../LICENSE-MIT
        ../THIRD-PARTY-NOTICES
      ];
    };
    cargoLock.lockFile = ../Cargo.lock;

    postPatch = "patchShebangs scripts";

    # The tests are a check of the flake: they would double the time of every build, and want to be run where a failure is looked at.
    doCheck = false;

    postInstall = ''
      mv $out/bin programs
      make install-files PREFIX=$out SYSCONFDIR=$out/etc PROGRAMS=$PWD/programs SYSTEMD_VERSION=${lib.versions.major systemd.version}
      # On NixOS the module says whether sessions start the notifier.
      rm -r $out/etc
    '';

    meta = {
      inherit (manifest.package) description;
      license = with lib.licenses; [mit asl20];
      platforms = lib.platforms.linux;
      mainProgram = "peernixctl";
    };
  }
