# Stand-ins for the options of NixOS that Peernix sets or reads: same names, same types, and the same way of merging.
{
  config,
  lib,
  pkgs,
  ...
}: let
  inherit (lib) mkOption types;
  option = type: default: mkOption {inherit type default;};
  bool = option types.bool;
  texts = option (types.listOf types.str) [];
  packages = option (types.listOf types.package) [];
  many = options: option (types.attrsOf (types.submodule {inherit options;})) {};

  # A directive of a unit: equal values, or lists that are joined.
  directive = lib.mkOptionType {
    name = "systemd option";
    merge = loc: definitions:
      if lib.isList (lib.head definitions).value
      then lib.concatMap (definition: definition.value) definitions
      else lib.mergeEqualOption loc definitions;
  };
  directives = option (types.attrsOf directive) {};
  unitNames = option (types.listOf (types.strMatching "[a-zA-Z0-9@%:_.-]+[.](service|socket|target)")) [];
  common = {
    enable = bool true;
    wantedBy = unitNames;
    requiredBy = unitNames;
    aliases = unitNames;
    overrideStrategy = option (types.enum ["asDropinIfExists" "asDropin"]) "asDropinIfExists";
  };
  unit =
    common
    // {
      description = option types.singleLineStr "";
      documentation = texts;
      after = unitNames;
      before = unitNames;
      wants = unitNames;
      requires = unitNames;
      partOf = unitNames;
      unitConfig = directives;
      restartTriggers = option (types.listOf types.unspecified) [];
      reloadTriggers = option (types.listOf directive) [];
    };
  service =
    unit
    // {
      environment = option (types.attrsOf types.str) {};
      path = packages;
      serviceConfig = directives;
      stopIfChanged = bool true;
      restartIfChanged = bool true;
      notSocketActivated = bool false;
    };
  socket =
    unit
    // {
      listenStreams = texts;
      socketConfig = directives;
    };
  firewall = {
    allowedTCPPorts = option (types.listOf types.port) [];
    allowedUDPPorts = option (types.listOf types.port) [];
  };
  atom = types.nullOr (types.oneOf [types.bool types.int types.float types.str types.path types.package]);
in {
  options = {
    assertions = option (types.listOf types.unspecified) [];
    warnings = texts;
    environment.systemPackages = packages;
    environment.etc = option (types.attrsOf (types.submodule ({
      name,
      config,
      ...
    }: {
      options = {
        source = mkOption {type = types.path;};
        text = option (types.nullOr types.lines) null;
      };
      config.source = lib.mkIf (config.text != null) (pkgs.writeText (baseNameOf name) config.text);
    }))) {};
    users.users = many {
      isSystemUser = bool false;
      group = option types.str "";
      description = option types.str "";
    };
    users.groups = many {members = texts;};
    services.dbus.packages = packages;
    security.polkit.enable = bool false;
    systemd = {
      inherit packages;
      tmpfiles.packages = packages;
      services = many service;
      sockets = many socket;
      user.services = many service;
      units = many (common // {text = option (types.nullOr types.str) null;});
    };
    networking.firewall =
      firewall
      // {
        enable = bool true;
        interfaces = many firewall;
      };
    networking.interfaces = many {
      useDHCP = option (types.nullOr types.bool) null;
      ipv4.addresses = option (types.listOf (types.submodule {
        options = {
          address = mkOption {type = types.str;};
          prefixLength = mkOption {type = types.ints.between 0 32;};
        };
      })) [];
    };
    boot.kernelModules = texts;
    boot.kernel.sysctl = option (types.attrsOf (types.nullOr (types.oneOf [types.bool types.int types.str]))) {};
    zramSwap = {
      enable = bool false;
      algorithm = option types.str "zstd";
      memoryPercent = option types.int 50;
    };
    nix.gc = {
      automatic = bool false;
      dates = option (types.either types.singleLineStr (types.listOf types.singleLineStr)) "03:15";
      options = option types.singleLineStr "";
    };
    services.prometheus = {
      ruleFiles = option (types.listOf types.path) [];
      scrapeConfigs = option (types.listOf (types.attrsOf types.unspecified)) [];
    };
    services.grafana.provision.dashboards.settings.providers = option (types.listOf (types.attrsOf types.unspecified)) [];
    networking.proxy.envVars = option (types.attrsOf types.str) {};
    nix.enable = bool true;
    nix.settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf (types.either atom (types.listOf atom));
        options = {
          substituters = texts;
          trusted-public-keys = texts;
          allowed-users = option (types.listOf types.str) ["*"];
        };
      };
    };
    virtualisation.vlans = option (types.listOf types.ints.unsigned) [1];
    virtualisation.memorySize = option types.ints.positive 1024;
    virtualisation.diskSize = option types.ints.positive 1024;
    virtualisation.useNixStoreImage = bool false;
    virtualisation.writableStore = bool false;
    virtualisation.writableStoreUseTmpfs = bool true;
    virtualisation.systemd-nspawn.options = texts;
    boot.isContainer = bool false;
    system.stateVersion = option types.str "";
    system.build = option (types.lazyAttrsOf types.unspecified) {};
    # What a system is made of here.
    looked = mkOption {type = types.unspecified;};
  };

  config = {
    nix.settings.substituters = lib.mkAfter ["https://cache.nixos.org/"];
    nix.settings.trusted-public-keys = ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="];
    environment.etc."nix/nix.conf" = lib.mkIf config.nix.enable {text = builtins.toJSON config.nix.settings;};
    looked = {
      inherit (config) nix users networking warnings boot zramSwap;
      inherit (config.services) prometheus grafana;
      inherit (config.systemd) services sockets units user;
      etc = lib.mapAttrs (_: file: "${file.source}") config.environment.etc;
    };
    system.build.toplevel = let
      failed = lib.filter (assertion: !assertion.assertion) config.assertions;
    in
      if failed == []
      then pkgs.writeText "system" (builtins.deepSeq config.looked "")
      else throw (lib.concatMapStringsSep "\n" (assertion: assertion.message) failed);
  };
}
