# Configurations that are right, by name: their `modules`, `checks` of what they come to, words of what `warns`, and whether there is a
# `file` that peernixd of today takes. Those that are refused are in refusals.nix.
{
  lib,
  pkgs,
  package,
  units,
}: let
  is = got: want: {inherit got want;};
  peernix = options: {services.peernix = {enable = true;} // options;};
  own = {
    share.policy = "signed+own";
    fleet.mode = "static";
    fleet.nodes = ["1pxccnbmwjxjy9q0f06vnfygdaidqy9b9yypjwv1l8lwgwdf4s53"];
  };
  configOf = config: config.environment.etc."peernix/config.toml".source;

  # The example has every key with its default, commented out. `[trust] public_keys` and `[gateway] proxy` have none of their own.
  exampleLines = lib.splitString "\n" (builtins.readFile ../../docs/config.example.toml);
  example = builtins.fromTOML (lib.concatMapStringsSep "\n" (line:
    if builtins.match "#[a-z_]+ = .*" line != null
    then lib.removePrefix "#" line
    else line)
  exampleLines);
  asList = value:
    if value == ""
    then []
    else lib.toList value;
  defaults =
    lib.recursiveUpdate example {
      gateway.listen = asList example.gateway.listen;
      gateway.proxy = null;
      share.listen = asList example.share.listen;
      share.plain_listen = asList example.share.plain_listen;
      # Without it the file says the same.
      share.profile = null;
    }
    // {trust.public_keys = null;};

  # The keys that do not count in the comparison of two configurations: `Gateway { upstreams: Vec::new(), ..`
  reloaded = let
    text = builtins.readFile ../../src/daemon/reload.rs;
    after = lib.last (lib.splitString "fn waiting(" text);
    names = builtins.split "([a-z_]+): " (lib.last (lib.splitString "-> Vec<String> {" (lib.head (lib.splitString "let differs" after))));
  in
    lib.subtractLists ["config"] (lib.unique (lib.concatLists (lib.filter lib.isList names)));

  install = unit: {
    wantedBy = lib.concatMap (value: units.words [value]) (unit.Install.WantedBy or []);
    aliases = lib.concatMap (value: units.words [value]) (unit.Install.Alias or []);
  };
  # Which options of a unit are not as they come.
  touched = unit:
    lib.attrNames (lib.filterAttrs (name: value: !(builtins.elem value ["" [] {}]) && value != (untouched.${name} or null)) unit);
  untouched = {
    enable = true;
    overrideStrategy = "asDropinIfExists";
    stopIfChanged = true;
    restartIfChanged = true;
    notSocketActivated = false;
  };
  enabledSockets = config: lib.attrNames (lib.filterAttrs (_: socket: socket.enable && socket.wantedBy == ["sockets.target"]) config.systemd.sockets);
  maskedSockets = config: lib.attrNames (lib.filterAttrs (_: socket: !socket.enable) config.systemd.sockets);
  ownSocket = config: role:
    lib.findFirst (unit: lib.hasPrefix "peernix-${role}-" unit.name) null
    (lib.mapAttrsToList (name: unit: unit // {inherit name;}) config.systemd.units);
  without = section: key: unit: unit // {${section} = removeAttrs unit.${section} [key];};

  peerixModule = {lib, ...}: {
    options.services.peerix = {
      enable = lib.mkEnableOption "peerix";
      openFirewall = lib.mkOption {
        type = lib.types.bool;
        default = true;
      };
      privateKeyFile = lib.mkOption {
        type = lib.types.nullOr lib.types.path;
        default = null;
      };
    };
  };
in {
  off = {
    modules = [];
    file = false;
    checks = config: {
      "nothing is set" =
        is {
          inherit (config.systemd) services sockets units packages;
          inherit (config.users) users groups;
          inherit (config.nix.settings) substituters;
        } {
          services = {};
          sockets = {};
          units = {};
          packages = [];
          users = {};
          groups = {};
          substituters = ["https://cache.nixos.org/"];
        };
    };
  };

  # Each end of a cable: addresses, ports on that interface alone, and the other end.
  directLink = {
    modules = [
      (peernix {
        directLink = {
          enable = true;
          role = "client";
          interface = "enp3s0";
        };
      })
      # The system's own word wins.
      {boot.kernel.sysctl."net.core.rmem_max" = 5;}
    ];
    checks = config: {
      "it is the second machine" = is config.networking.interfaces.enp3s0.ipv4.addresses [
        {
          address = "10.255.255.2";
          prefixLength = 24;
        }
      ];
      "the interface asks nobody for an address" = is config.networking.interfaces.enp3s0.useDHCP false;
      "ports are open there" = is config.networking.firewall.interfaces.enp3s0 {
        allowedTCPPorts = [7650];
        allowedUDPPorts = [5353];
      };
      "and nowhere else" = is (config.networking.firewall.allowedTCPPorts ++ config.networking.firewall.allowedUDPPorts) [];
      "Peernix knows the other end" = is config.services.peernix.settings.discovery.peers ["10.255.255.1:7650"];
      "windows are large, unless the system says otherwise" =
        is [config.boot.kernel.sysctl."net.core.rmem_max" config.boot.kernel.sysctl."net.core.wmem_max"] [5 134217728];
    };
  };

  # What `peernixctl tune plan` prints for the same hardware is a module, and comes to the same.
  tune = let
    settings = module: let
      evaluated =
        (import ./nixpkgs/nixos/lib/eval-config.nix {
          inherit lib pkgs;
          system = pkgs.stdenv.hostPlatform.system;
          modules = [module];
        })
        .config;
    in {
      inherit (evaluated) zramSwap;
      inherit (evaluated.boot) kernelModules;
      inherit (evaluated.boot.kernel) sysctl;
      inherit (evaluated.nix) gc;
      nix = removeAttrs evaluated.nix.settings ["substituters" "trusted-public-keys" "allowed-users"];
    };
    printed = name: settings (import (../../tests/golden/ctl + "/${name}.txt"));
    ours = options:
      settings {
        imports = [../tune.nix];
        services.peernix.tune = {enable = true;} // options;
      };
  in {
    modules = [(peernix {})];
    checks = _: {
      "by formulas" = is (ours {
        memoryGiB = 4;
        cores = 2;
        diskGB = 120;
      }) (printed "tune-plan");
      "by a profile" = is (ours {
        profile = "mid";
        memoryGiB = 16;
        cores = 8;
        diskGB = 1000;
      }) (printed "tune-plan-mid");
    };
  };

  monitoring = {
    modules = [
      (peernix {
        alerts = {
          enable = true;
          diskPercent = 90;
          hitRate = 50;
        };
        dashboard.enable = true;
      })
    ];
    checks = config: {
      "the gateway is scraped" =
        is (map (job: (lib.head job.static_configs).targets) config.services.prometheus.scrapeConfigs) [["127.0.0.1:7649"]];
      "the rules have these limits" = let
        rules = (lib.head config.services.prometheus.ruleFiles).text;
      in
        is [(lib.hasInfix "> 0.9" rules) (lib.hasInfix "< 0.5" rules) (lib.hasInfix "0.85" rules)] [true true false];
      "Grafana has the dashboard" = is (config.environment.etc ? "peernix/dashboards/peernix.json") true;
    };
  };

  defaults = {
    modules = [(peernix {})];
    checks = config: {
      "every key of docs/config.example.toml is an option with its default, and there are no others" = is config.services.peernix.settings defaults;
      "the file is checked by the program" = is (lib.hasInfix "peernixd --config" (configOf config).command) true;
      "the file is a link at a fixed place" = is (config.environment.etc ? "peernix/config.toml") true;
      "the gateway is first, the others stay" = is config.nix.settings.substituters ["http://127.0.0.1:7649" "https://cache.nixos.org/"];
      "no key is added" = is (lib.length config.nix.settings.trusted-public-keys) 1;
      "Nix soon asks again" = is config.nix.settings.narinfo-cache-negative-ttl 60;
      "the service may ask the nix-daemon, as may everybody before" =
        is [config.nix.settings.extra-allowed-users config.nix.settings.allowed-users] [["peernix"] ["*"]];
      "the service is no trusted user" = is (config.nix.settings ? trusted-users || config.nix.settings ? extra-trusted-users) false;
      "the firewall stays shut" = is (config.networking.firewall.allowedTCPPorts ++ config.networking.firewall.allowedUDPPorts) [];
      "units, D-Bus, tmpfiles and programs are those of the package" = is [
        config.systemd.packages
        config.systemd.tmpfiles.packages
        config.services.dbus.packages
        config.environment.systemPackages
      ] (lib.genList (_: [package]) 4);
      "polkit is on" = is config.security.polkit.enable true;
      "polkit finds the package's rules, which ask members of the group for no password" = is (lib.elem package config.environment.systemPackages) true;
      # A membership is for other distributions, whose Nix daemon has a group; on NixOS everybody may ask it.
      "users and groups are those of systemd/peernix.sysusers" = is (lib.sort lib.lessThan (lib.filter (line: !lib.hasPrefix "m " line) (map toString units.users))) (
        lib.sort lib.lessThan (map (name: "u ${name}") (lib.attrNames config.users.users)
          # `u` makes a group of the same name.
          ++ map (name: "g ${name}") (lib.subtractLists (lib.attrNames config.users.users) (lib.attrNames config.users.groups)))
      );
      "the user is one of the system" = is config.users.users.peernix {
        isSystemUser = true;
        group = "peernix";
        description = "Nix store sharing";
      };
      # The module and systemd/ agree.
      "there is no service beside that of systemd/" = is (lib.attrNames config.systemd.services) ["peernix"];
      "the service has every directive of systemd/, and none is replaced" =
        is (touched config.systemd.services.peernix) ["aliases" "notSocketActivated" "reloadTriggers" "restartTriggers" "stopIfChanged" "wantedBy"];
      "the service is enabled as systemd/ says" =
        is {inherit (config.systemd.services.peernix) wantedBy aliases;} (install units.service);
      "the sockets are those of systemd/" = is (map (name: "${name}.socket") (lib.attrNames config.systemd.sockets)) (lib.attrNames units.sockets);
      "the sockets have every directive of systemd/, and none is replaced" =
        is (lib.mapAttrs (_: touched) config.systemd.sockets) (lib.mapAttrs (_: _: ["wantedBy"]) config.systemd.sockets);
      "the sockets are enabled as systemd/ says" =
        is (lib.mapAttrs' (name: socket: lib.nameValuePair "${name}.socket" {inherit (socket) wantedBy aliases;}) config.systemd.sockets)
        (lib.mapAttrs (_: install) units.sockets);
      "the service wants the sockets of systemd/" =
        is (lib.sort lib.lessThan (lib.filter (lib.hasPrefix "peernix-") (units.words units.service.Unit.Wants))) (lib.attrNames units.sockets);
      "the sockets of systemd/ listen where the settings say" =
        is {
          gateway = units.sockets."peernix-gateway.socket".Socket.ListenStream;
          share = units.sockets."peernix-share.socket".Socket.ListenStream;
        } {
          gateway = config.services.peernix.settings.gateway.listen;
          share = config.services.peernix.settings.share.listen;
        };
      "no socket is made" = is config.systemd.units {};
      "a switch restarts in one step and leaves the sockets alone" =
        is [config.systemd.services.peernix.stopIfChanged config.systemd.services.peernix.notSocketActivated] [false true];
      "a new file or new keys reload" =
        is config.systemd.services.peernix.reloadTriggers [(configOf config) config.environment.etc."nix/nix.conf".source];
      "src/daemon/reload.rs takes over what the module says that it does" = is (lib.sort lib.lessThan reloaded) (
        lib.sort lib.lessThan ["upstreams" "budget_ms" "read_ahead" "proxy" "policy" "public_keys" "deny" "download_limit" "download_limit_per_peer" "upload_limit" "upload_limit_per_peer" "upload_schedule" "on_metered" "battery_min" "peers"]
      );
      "what a reload does not take over restarts" =
        is (lib.mapAttrs (_: lib.attrNames) (builtins.fromJSON (lib.head config.systemd.services.peernix.restartTriggers)))
        {
          gateway = ["listen" "priority" "verify"];
          share = ["compression" "index" "listen" "max_connections" "plain_compression" "plain_listen" "relay"];
          store = ["dir" "root" "state_dir"];
          trust = [];
          keys = ["signing"];
          discovery = ["interfaces" "mdns" "peerix"];
          fleet = ["mode" "nodes" "public_key"];
          swarm = ["claims" "max_sources" "patches" "pieces"];
          nats = ["addresses" "credential" "relay" "servers" "site"];
          replicate = ["copies" "keep" "max_size" "replace_after"];
          cache = [];
          limits = ["header_timeout" "idle_timeout" "memory" "per_address" "requests_per_second"];
          log = [];
        };
      "no notifications" = is [config.systemd.user.services (config.environment.etc ? "xdg/autostart/peernix-notifier.desktop")] [{} false];
    };
  };

  everything = {
    modules = [
      (peernix {
        openFirewall = true;
        interfaces = ["enp3s0" "wlan0"];
        signingKeyFile = "/run/secrets/signing";
        nodeKeyFile = "/run/secrets/node";
        fleetKeyFile = "/run/secrets/fleet";
        admins = ["alice" "bob"];
        notifications.enable = true;
        narinfoCacheNegativeTtl = 0;
        settings =
          lib.recursiveUpdate own
          {
            gateway.listen = "127.0.0.1:8001";
            gateway.upstreams = ["https://cache.nixos.org" "https://cache.example.org/private"];
            share.listen = ["192.0.2.1:8002" "[2001:db8::1]:8002"];
            share.plain_listen = "[::]:5000";
            share.public_keys = [];
            share.deny = ["*-secret*" "a \"quoted\" one"];
            share.upload_limit = 20000000;
            trust.public_keys = ["other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="];
            keys.name = "tower-1";
            log.level = "debug";
          };
      })
      {nix.settings.substituters = ["https://cache.example.org/private"];}
    ];
    warns = ["does not have the key of cache.nixos.org"];
    checks = config: let
      inherit (config.systemd.services.peernix) serviceConfig;
      gateway = ownSocket config "gateway";
      share = ownSocket config "share";
      plain = ownSocket config "plain";
    in {
      "secrets are credentials, and no other directive is touched" =
        is serviceConfig {LoadCredential = ["signing-key:/run/secrets/signing" "node-key:/run/secrets/node" "fleet-key:/run/secrets/fleet"];};
      "a credential replaces that of the same name in systemd/" =
        is (map (value: lib.head (lib.splitString ":" value)) units.service.Service.LoadCredential) ["signing-key" "node-key" "fleet-key"];
      "the key that signs is the credential" = is config.services.peernix.settings.keys.signing "credential";
      "the firewall opens on the interfaces alone" = is {inherit (config.networking.firewall) allowedTCPPorts allowedUDPPorts interfaces;} {
        allowedTCPPorts = [];
        allowedUDPPorts = [];
        interfaces = lib.genAttrs ["enp3s0" "wlan0"] (_: {
          allowedTCPPorts = [8002 5000];
          allowedUDPPorts = [5353];
        });
      };
      "machines are looked for on the interfaces alone" = is config.services.peernix.settings.discovery.interfaces ["enp3s0" "wlan0"];
      "Nix asks the gateway where it is, then the rest" =
        is config.nix.settings.substituters ["http://127.0.0.1:8001" "https://cache.example.org/private" "https://cache.nixos.org/"];
      "keys that are trusted here are trusted by Nix" =
        is (lib.elem "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" config.nix.settings.trusted-public-keys) true;
      "Nix always asks again" = is config.nix.settings.narinfo-cache-negative-ttl 0;
      "admins are members of the group" = is config.users.groups.peernix-admin.members ["alice" "bob"];
      "sessions show notifications" = is [
        config.systemd.user.services.peernix-notifier.wantedBy
        (toString config.environment.etc."xdg/autostart/peernix-notifier.desktop".source)
      ] [["graphical-session.target"] "${package}/share/applications/org.peernix.Notifier.desktop"];
      "sockets with other addresses take the place of the package's" = is (enabledSockets config) ["peernix-admin" "peernix-varlink"];
      "those of the package are masked" = is (maskedSockets config) ["peernix-gateway" "peernix-share"];
      "the service waits for the new ones" = is config.systemd.services.peernix.after [gateway.name plain.name share.name];
      "and starts them" = is config.systemd.services.peernix.wants config.systemd.services.peernix.after;
      "they start with the system" = is (map (unit: unit.wantedBy) [gateway share plain]) (lib.genList (_: ["sockets.target"]) 3);
      "they listen where the settings say" = is (map (unit: (units.parse unit.text).Socket.ListenStream) [gateway share plain]) [
        ["127.0.0.1:8001"]
        ["192.0.2.1:8002" "[2001:db8::1]:8002"]
        ["[::]:5000"]
      ];
      "they have their names" = is (map (unit: (units.parse unit.text).Socket.FileDescriptorName) [gateway share plain]) [["gateway"] ["share"] ["plain"]];
      "the rest is as in systemd/" = let
        rest = unit: without "Socket" "FileDescriptorName" (without "Socket" "ListenStream" (without "Unit" "Description" unit));
      in
        is (map (unit: rest (units.parse unit.text)) [gateway share plain])
        (map (name: rest units.sockets."peernix-${name}.socket") ["gateway" "share" "share"]);
      "the plain share says that it is one" = is (units.parse plain.text).Unit.Description ["Nix store sharing: plain share for any Nix"];
      "the file says it all" = is (builtins.fromTOML config.test.text).share {
        listen = ["192.0.2.1:8002" "[2001:db8::1]:8002"];
        index = true;
        relay = true;
        plain_listen = ["[::]:5000"];
        compression = "auto";
        plain_compression = "none";
        policy = "signed+own";
        public_keys = [];
        deny = ["*-secret*" "a \"quoted\" one"];
        upload_limit = 20000000;
        upload_limit_per_peer = "0B";
        upload_schedule = [];
        on_metered = "pause";
        battery_min = 20;
        max_connections = 1024;
      };
    };
  };

  "upstreams with logins" = {
    modules = [
      (peernix {
        credentials = {
          cache-login = "/run/secrets/cache-netrc";
          client-certificate = "/run/secrets/client.pem";
        };
        settings.gateway.upstreams = [
          "https://cache.nixos.org"
          {
            url = "https://cache.example.org/private";
            credential.netrc = "cache-login";
            public_keys = ["other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="];
            allow = ["linux-*"];
            deny = ["*-secret*"];
            tier = 2;
          }
          {
            url = "https://mtls.example.org";
            credential.certificate = "client-certificate";
          }
        ];
      })
    ];
    checks = config: {
      "logins are credentials, and no other directive is touched" = is config.systemd.services.peernix.serviceConfig {
        LoadCredential = ["cache-login:/run/secrets/cache-netrc" "client-certificate:/run/secrets/client.pem"];
      };
      "the file names them, and says nothing of what is not set" = is (builtins.fromTOML config.test.text).gateway.upstreams [
        "https://cache.nixos.org"
        {
          url = "https://cache.example.org/private";
          credential.netrc = "cache-login";
          public_keys = ["other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="];
          allow = ["linux-*"];
          deny = ["*-secret*"];
          tier = 2;
        }
        {
          url = "https://mtls.example.org";
          credential.certificate = "client-certificate";
          deny = [];
          tier = 1;
        }
      ];
    };
  };
  "a machine that only takes" = {
    modules = [
      (peernix {
        openFirewall = true;
        settings.share.profile = "receive-only";
      })
    ];
    warns = ["opens no port for the share"];
    checks = config: {
      "the file says all that follows" = is (lib.getAttrs ["profile" "policy" "listen" "plain_listen" "index" "relay"] (builtins.fromTOML config.test.text).share) {
        profile = "receive-only";
        policy = "off";
        listen = [];
        plain_listen = [];
        index = false;
        relay = false;
      };
      "nothing is opened for others" = is config.networking.firewall.allowedTCPPorts [];
    };
  };

  "a member of a fleet" = {
    modules = [
      (peernix {
        settings.share.profile = "fleet";
        settings.fleet.public_key = "1pxccnbmwjxjy9q0f06vnfygdaidqy9b9yypjwv1l8lwgwdf4s53";
      })
    ];
    checks = config: {
      "the file says all that follows" = let
        text = builtins.fromTOML config.test.text;
      in
        is [text.fleet.mode text.share.policy text.share.listen] ["fleet" "signed+own" ["[::]:7650"]];
    };
  };

  firewall = {
    modules = [(peernix {openFirewall = true;})];
    checks = config: {
      "share and multicast DNS, everywhere" =
        is {inherit (config.networking.firewall) allowedTCPPorts allowedUDPPorts interfaces;}
        {
          allowedTCPPorts = [7650];
          allowedUDPPorts = [5353];
          interfaces = {};
        };
    };
  };
  "firewall without multicast DNS" = {
    modules = [
      (peernix {
        openFirewall = true;
        settings.discovery.mdns = false;
      })
    ];
    checks = config: {
      "only the share" = is [config.networking.firewall.allowedTCPPorts config.networking.firewall.allowedUDPPorts] [[7650] []];
    };
  };

  "a share on loopback" = {
    modules = [
      (peernix {
        openFirewall = true;
        settings.share.listen = ["127.0.0.1:7650" "[::1]:7650"];
        settings.share.plain_listen = ["127.0.0.2:80" "192.0.2.1:5000" "[::]:5000"];
      })
    ];
    checks = config: {"only what others can reach is open, once" = is config.networking.firewall.allowedTCPPorts [5000];};
  };

  "no share" = {
    modules = [
      (peernix {
        openFirewall = true;
        settings.share.listen = "";
      })
    ];
    warns = ["opens no port"];
    checks = config: {
      "its socket is masked" = is (maskedSockets config) ["peernix-share"];
      "there is none in its place" = is config.systemd.units {};
      "no port is open for it" = is config.networking.firewall.allowedTCPPorts [];
    };
  };

  "Nix left alone" = {
    modules = [(peernix {configureNix = false;})];
    checks = config: {
      "no substituter is added" = is config.nix.settings.substituters ["https://cache.nixos.org/"];
      "no setting but who may ask the nix-daemon" =
        is (lib.attrNames config.nix.settings) ["allowed-users" "extra-allowed-users" "substituters" "trusted-public-keys"];
    };
  };
  "without Nix" = {
    modules = [(peernix {}) {nix.enable = false;}];
    checks = config: {
      "nix.conf is not looked at" = is [config.nix.settings.substituters config.systemd.services.peernix.reloadTriggers] [
        ["https://cache.nixos.org/"]
        [(configOf config)]
      ];
    };
  };
  "negative TTL of Nix" = {
    modules = [(peernix {narinfoCacheNegativeTtl = null;})];
    checks = config: {"not set" = is (config.nix.settings ? narinfo-cache-negative-ttl) false;};
  };
  "negative TTL of the administrator" = {
    modules = [(peernix {}) {nix.settings.narinfo-cache-negative-ttl = 5;}];
    checks = config: {"counts more" = is config.nix.settings.narinfo-cache-negative-ttl 5;};
  };
  "unknown settings" = {
    modules = [(peernix {settings.tomorrow.key = 1;})];
    # The program of today refuses it; that of tomorrow takes it.
    file = false;
    checks = config: {"reach the file" = is (builtins.fromTOML config.test.text).tomorrow.key 1;};
  };
  "built for another machine" = {
    modules = [
      (peernix {})
      {_module.args.pkgs = lib.mkForce (pkgs // {stdenv = pkgs.stdenv // {hostPlatform = lib.systems.elaborate "aarch64-linux";};});}
    ];
    checks = config: {"the program does not run" = is ((configOf config) ? command) false;};
  };
  "a store in a place that the unit hides" = {
    modules = [(peernix {settings.store.root = "/srv/chroot";})];
    # It is no place of the machine where it is checked.
    file = false;
    checks = config: {
      "only what has to be is in sight" = is config.systemd.services.peernix.serviceConfig {InaccessiblePaths = ["" "-/boot" "-/efi" "-/mnt" "-/media"];};
      "the rest is hidden as in systemd/" =
        is (lib.sort lib.lessThan (units.words units.service.Service.InaccessiblePaths)) ["-/boot" "-/efi" "-/media" "-/mnt" "-/srv"];
    };
  };
  "a store in a home" = {
    modules = [(peernix {settings.store.root = "/home/alice/store";})];
    file = false;
    checks = config: {"can be read" = is config.systemd.services.peernix.serviceConfig {ProtectHome = "read-only";};};
  };
  "trust without cache.nixos.org" = {
    modules = [(peernix {settings.trust.public_keys = ["other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="];})];
    warns = ["does not have the key of cache.nixos.org"];
    checks = config: {
      "Nix trusts both" = is (map (key: lib.head (lib.splitString ":" key)) config.nix.settings.trusted-public-keys) ["cache.nixos.org-1" "other-1"];
    };
  };
  reload = {
    modules = [
      (peernix {
        settings.log.level = "debug";
        settings.gateway.upstreams = [];
        settings.discovery.peers = ["tower:7650"];
      })
    ];
    checks = config: let
      triggers = builtins.fromJSON (lib.head config.systemd.services.peernix.restartTriggers);
    in {
      "what a reload takes over restarts nothing" =
        is [(triggers.log ? level) (triggers.gateway ? upstreams) (triggers.discovery ? peers)] [false false false];
    };
  };

  proxies = {
    modules = [(peernix {settings.gateway.proxy = "http://proxy.example.org:3128";}) {networking.proxy.envVars.no_proxy = "example.net";}];
    checks = config: {
      "the service knows those of the Nix daemon" = is (config.systemd.services.peernix.environment.no_proxy or null) "example.net";
    };
  };

  "a signing key that nothing uses" = {
    modules = [(peernix {signingKeyFile = "/run/secrets/signing";})];
    warns = ["nothing is signed"];
    # The credential is not there when the file is checked.
    checks = _: {};
  };
  "beside peerix" = {
    modules = [(peernix {}) peerixModule {services.peerix.enable = true;}];
    warns = ["both enabled"];
    checks = config: {"its options work" = is [config.services.peerix.openFirewall config.services.peerix.privateKeyFile] [true null];};
  };
  "beside peerix, which is off" = {
    modules = [(peernix {}) peerixModule];
    checks = config: {"its options work" = is config.services.peerix.enable false;};
  };
}
