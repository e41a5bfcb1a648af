# The test vm-tests/NAME.py for the NixOS test driver: makes the machines that NAME.toml declares (vm-tests/README.md describes the keys).
{
  lib,
  name,
}: let
  folder = ../vm-tests;
  read = file: builtins.fromTOML (builtins.readFile (folder + "/${file}"));
  common = read "common.toml";
  test = read "${name}.toml";
  # Table by table, as the driver for containers does it.
  declared = machine: lib.recursiveUpdate (lib.recursiveUpdate common (test.common or {})) machine;

  node = declaration: {
    lib,
    pkgs,
    ...
  }: let
    vlans = declaration.vlans or [1];
  in {
    imports = [./module.nix];
    virtualisation = {inherit vlans;} // lib.optionalAttrs (declaration ? memory) {memorySize = declaration.memory;};

    services.peernix = {
      enable = declaration.peernix or true;
      openFirewall = true;
      # On eth0 the driver gives all machines the same address, in networks of their own.
      interfaces = map (number: "eth${toString number}") (lib.range 1 (lib.length vlans));
      settings = declaration.settings or {};
    };
    # Web servers that scripts start.
    networking.firewall.allowedTCPPorts = [80 8000];
    nix.settings = lib.mapAttrs (_: lib.mkForce) (declaration.nix or {});
    environment.etc = lib.mapAttrs (_: text: {inherit text;}) (declaration.etc or {});
    environment.systemPackages = with pkgs;
      [curl jq netcat-openbsd nftables nginx procps python3 socat sqlite]
      ++ lib.optionals (lib.hasSuffix "-desktop" (declaration.tree or "")) [
        dunst
        imagemagick
        libnotify
        notification-daemon
        scrot
        xdotool
        (pkgs.xorg-server or pkgs.xorg.xorgserver)
      ];
  };
in {
  name = "peernix-${name}";
  # For containers, which boot in a second.
  globalTimeout = 5 * (test.timeout or 300);
  nodes = lib.mapAttrs (_: machine: node (declared machine)) test.machines;
  # The scripts name types in annotations, which are nothing to look up when they run.
  testScript = "from __future__ import annotations\n" + lib.concatMapStringsSep "\n" (file: builtins.readFile (folder + "/${file}")) ["common.py" "${name}.py"];
  skipTypeCheck = true;
  skipLint = true;
}
