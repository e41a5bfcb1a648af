# What `nix flake check` runs: the package, its tests, the module, and each machine test of vm-tests/.
{pkgs}: let
  inherit (pkgs) lib;
  package = pkgs.callPackage ./package.nix {};

  # As `make nixos-check`, with the lib of this nixpkgs.
  module = import ./tests {inherit (pkgs) lib;};

  vmTests = import ./vm-tests.nix {inherit lib;};
in
  {
    inherit package;

    unit = package.overrideAttrs {
      pname = "peernix-unit-tests";
      doCheck = true;
      cargoTestFlags = ["--lib" "--bins"];
      # These need a nix-daemon and root, which the sandbox of a build has not; CI and `make test` run them.
      checkFlags = ["--skip=store::tests"];
    };

    module =
      if builtins.readFile ../docs/nixos-options.md != module.options
      then throw "docs/nixos-options.md is not current: make nixos-docs"
      else if module.failures == []
      then pkgs.writeText "peernix-module" (lib.concatLines module.passed)
      else throw "nixos/tests: ${lib.concatStringsSep "\n" module.failures}";

    # The same with NixOS itself and not with stand-ins for its options.
    system =
      (lib.nixosSystem or (import (pkgs.path + "/nixos/lib/eval-config.nix")) {
        inherit (pkgs.stdenv.hostPlatform) system;
        modules = [
          ./module.nix
          {
            boot.isContainer = true;
            services.peernix = {
              enable = true;
              openFirewall = true;
              notifications.enable = true;
              settings.share.plain_listen = "[::]:5000";
            };
            system.stateVersion = lib.trivial.release;
          }
        ];
      })
      .config
      .system
      .build
      .toplevel;
  }
  // lib.listToAttrs (map (name:
    lib.nameValuePair "vm-${name}" (pkgs.testers.runNixOSTest (import ./vm-test.nix {inherit lib name;})))
  vmTests.all)
