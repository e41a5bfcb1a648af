{
  description = "Lets NixOS machines share what is in their Nix stores";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = {
    self,
    nixpkgs,
  }: let
    inherit (nixpkgs) lib;
    forSystems = make: lib.genAttrs ["x86_64-linux" "aarch64-linux"] (system: make nixpkgs.legacyPackages.${system});
    package = pkgs: pkgs.callPackage ./nixos/package.nix {};
  in {
    nixosModules = rec {
      default = peernix;
      peernix = {imports = [./nixos/module.nix];};
    };
    overlays.default = import ./nixos/overlay.nix;

    packages = forSystems (pkgs: rec {
      default = peernix;
      peernix = package pkgs;
    });

    apps = forSystems (pkgs:
      lib.genAttrs ["peernixd" "peernixctl"] (program: {
        type = "app";
        program = "${package pkgs}/bin/${program}";
        meta.description =
          if program == "peernixd"
          then "Share the Nix store of this machine, without installing anything"
          else "Ask and tell a running peernixd";
      }));

    checks = forSystems (pkgs: import ./nixos/checks.nix {inherit pkgs;});
    # `nix build .#containerTests.keys`: quicker than machines, for builders that can.
    legacyPackages = forSystems (pkgs: {containerTests = import ./nixos/container-tests.nix {inherit pkgs;};});

    devShells = forSystems (pkgs: {
      default = pkgs.mkShell {
        packages = with pkgs; [cargo rustc clippy rustfmt rust-analyzer alejandra dbus];
      };
    });

    formatter = forSystems (pkgs: pkgs.alejandra);
  };
}
