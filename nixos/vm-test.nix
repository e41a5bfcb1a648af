# The test vm-tests/NAME.py for the NixOS test driver: makes the machines of NAME.nix (vm-tests/README.md describes what is in it), in QEMU
# or, where the driver has that (26.05), in containers of systemd-nspawn.
{
  lib,
  name,
  inContainers ? false,
}: let
  folder = ../vm-tests;
  common = import (folder + "/common.nix");
  test = import (folder + "/${name}.nix");
  # Table by table, as the driver for containers does it: a list takes the place of another one.
  declared = machine: lib.recursiveUpdate (lib.recursiveUpdate common (test.defaults or {})) machine;

  node = declaration: {
    config,
    lib,
    pkgs,
    ...
  }: {
    imports = [
      ./module.nix
      (removeAttrs declaration ["nix"])
    ];

    options.vmTest.tree = lib.mkOption {
      type = lib.types.enum ["trixie" "trixie-desktop" "bookworm" "sid"];
      default = "trixie";
      description = "The Debian that the machine is elsewhere. Here it only says whether there is an X server.";
    };

    config = {
      virtualisation =
        if inContainers
        then {
          # The driver shows each the store of the host, read-only: what is written goes into a layer of its own above it.
          systemd-nspawn.options = ["--overlay=/nix/store::/nix/store"];
        }
        else {
          # A store of its own on its own disk, so that it holds what its database says also after a crash.
          useNixStoreImage = true;
          writableStore = true;
          writableStoreUseTmpfs = false;
          diskSize = 4096;
        };
      services.peernix = {
        enable = lib.mkDefault true;
        openFirewall = true;
        # On eth0 the driver gives all machines the same address, in networks of their own.
        interfaces = map (number: "eth${toString number}") (lib.range 1 (lib.length config.virtualisation.vlans));
      };
      # Servers that scripts start.
      networking.firewall.allowedTCPPorts = [80 4222 8000];
      # Not beside what NixOS has: cache.nixos.org would be asked as well.
      nix.settings = lib.mapAttrs (_: lib.mkForce) declaration.nix.settings;
      environment.systemPackages = with pkgs;
        [curl jq nats-server netcat-openbsd nginx procps python3]
        ++ lib.optionals (lib.hasSuffix "-desktop" config.vmTest.tree) [
          dunst
          imagemagick
          libnotify
          (pkgs.xorg-server or pkgs.xorg.xorgserver)
        ];
    };
  };
in {
  name = "peernix-${name}";
  # For containers, which boot in a second.
  globalTimeout = 5 * (test.timeout or 300);
  ${
    if inContainers
    then "containers"
    else "nodes"
  } =
    lib.mapAttrs (_: machine: node (declared machine)) test.nodes;
  # The scripts name types in annotations, which are nothing to look up when they run.
  testScript = "from __future__ import annotations\n" + lib.concatMapStringsSep "\n" (file: builtins.readFile (folder + "/${file}")) ["common.py" "${name}.py"];
  skipTypeCheck = true;
  skipLint = true;
}
