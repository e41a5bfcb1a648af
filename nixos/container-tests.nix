# The machine tests that need no kernel of their own, in containers of systemd-nspawn, which the test driver of NixOS has since 26.05. Apart
# from `nix flake check`, since not every builder can do it: it takes the settings auto-allocate-uids and the system feature uid-range of Nix.
{pkgs}: let
  inherit (pkgs) lib;
in
  lib.genAttrs (import ./vm-tests.nix {inherit lib;}).inContainers
  (name:
    pkgs.testers.runNixOSTest (import ./vm-test.nix {
      inherit lib name;
      inContainers = true;
    }))
