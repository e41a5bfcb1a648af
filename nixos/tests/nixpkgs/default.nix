# A stand-in for nixpkgs: its real `lib`, and of its packages just what Peernix mentions. It evaluates, and builds nothing.
{
  lib ? import ./lib,
  system ? "x86_64-linux",
}: let
  platform = lib.systems.elaborate system;

  # Something that can be instantiated, and shows in `args` and `text` what it was made from.
  fake = name: more:
    (derivation {
      inherit name system;
      builder = "/bin/sh";
      args = ["-c" "echo a stand-in >$out"];
      # Looked at, where Nix can: lib.fileset needs 2.14.
      src =
        if builtins ? readFileType
        then "${more.args.src or ""}"
        else "";
    })
    // more;

  overridable = name: args:
    fake name {
      inherit args;
      meta = args.meta or {};
      overrideAttrs = change:
        overridable name (args
          // (
            if lib.isFunction change
            then change args
            else change
          ));
    };

  toml = import ./toml.nix {inherit lib;};

  pkgs =
    lib.genAttrs [
      "alejandra"
      "cargo"
      "clippy"
      "curl"
      "dbus"
      "dunst"
      "imagemagick"
      "jq"
      "libnotify"
      "nats-server"
      "netcat-openbsd"
      "nginx"
      "procps"
      "python3"
      "rust-analyzer"
      "rustc"
      "rustfmt"
      "xorg-server"
    ] (name: fake name {})
    // {
      inherit lib system;
      systemd = fake "systemd" {version = "258.2";};
      path = ./.;
      stdenv = {
        hostPlatform = platform;
        buildPlatform = platform;
      };
      callPackage = file: args: let
        function = import file;
      in
        function (builtins.intersectAttrs (builtins.functionArgs function) pkgs // args);
      rustPlatform.buildRustPackage = args: overridable "${args.pname}-${args.version}" args;
      mkShell = args: fake "shell" {inherit args;};
      writeText = name: text: fake name {inherit text;};
      runCommand = name: environment: command: fake name {inherit environment command;};
      formats.toml = _: {
        inherit (toml) type;
        generate = name: value: pkgs.writeText name (toml.text value);
      };
      testers.runNixOSTest = test: let
        machines = lib.mapAttrs (_: node:
          (import ./nixos/lib/eval-config.nix {
            inherit system pkgs;
            modules = [node];
          })
          .config
          .system
          .build
          .toplevel)
        (test.nodes or {} // test.containers or {});
      in
        builtins.seq (builtins.deepSeq (map (machine: machine.drvPath) (lib.attrValues machines)) (builtins.stringLength test.testScript))
        (fake "vm-test-run-${test.name}" {inherit (test) testScript;});
    };
in
  pkgs
