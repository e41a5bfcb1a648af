# `services.peernix`: shares the Nix store of this machine with others on the network, and fetches from theirs.
#
# The units are those that the package installs (systemd/); here is only what NixOS has its own way for: enabling, users, secrets,
# the firewall, and when a new configuration restarts what.
{
  config,
  lib,
  pkgs,
  ...
}: let
  inherit (lib) mkDefault mkIf mkMerge mkOption types;
  cfg = config.services.peernix;
  toml = pkgs.formats.toml {};
  withoutNull = lib.filterAttrsRecursive (_: value: value != null);
  settings = lib.recursiveUpdate (withoutNull cfg.settings) {
    gateway.upstreams = map (upstream:
      if builtins.isAttrs upstream
      then withoutNull upstream
      else upstream)
    cfg.settings.gateway.upstreams;
  };

  # -- Configuration --
  written = toml.generate "peernix-config.toml" settings;
  # The program has to run where the system is built.
  canCheck = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
  checked =
    pkgs.runCommand "peernix-config-checked.toml" {nativeBuildInputs = [cfg.package];}
    ''
      peernixd --config ${written} --check-config
      cp ${written} $out
    '';
  configFile =
    if cfg.checkConfig && canCheck
    then checked
    else written;
  # What a running service takes over when it reloads (src/daemon/reload.rs). All else needs a restart.
  reloadable = {
    gateway = ["upstreams" "budget_ms" "read_ahead" "download_limit" "download_limit_per_peer" "proxy"];
    share = ["policy" "public_keys" "deny" "upload_limit" "upload_limit_per_peer" "upload_schedule" "on_metered" "battery_min"];
    trust = ["public_keys"];
    keys = ["name" "grace"];
    discovery = ["peers"];
    cache = ["max_size" "keep"];
    log = ["level"];
  };
  fixed = lib.mapAttrs (section: keys:
    if builtins.isAttrs keys
    then removeAttrs keys (reloadable.${section} or [])
    else keys)
  settings;

  # Who is let in by a profile.
  modes = {
    open = "open";
    team = "static";
    fleet = "fleet";
  };
  profile = toString cfg.settings.share.profile;

  # -- Sockets --
  # "127.0.0.1:80", "[::]:80" → 80
  port = address: lib.toInt (lib.last (lib.splitString ":" address));
  isLoopback = address: lib.hasPrefix "127." address || lib.hasPrefix "[::1]:" address;
  roles = {
    gateway = {
      inherit (cfg.settings.gateway) listen;
      unit = ../systemd/peernix-gateway.socket;
      shipped = "127.0.0.1:7649";
    };
    share = {
      inherit (cfg.settings.share) listen;
      unit = ../systemd/peernix-share.socket;
      shipped = "[::]:7650";
    };
    plain = {
      listen = cfg.settings.share.plain_listen;
      unit = ../systemd/peernix-share.socket;
      shipped = null;
    };
  };
  # A switch to another configuration starts and stops sockets, but never restarts one. So a unit of the package listens where it says,
  # and other addresses are a unit of their own, with the addresses in its name.
  ownSocket = role: "peernix-${role}-${builtins.substring 0 8 (builtins.hashString "sha256" (toString roles.${role}.listen))}.socket";
  ownSockets = lib.filterAttrs (_: role: role.listen != [] && role.listen != [role.shipped]) roles;
  unusedSockets = lib.filterAttrs (_: role: role.shipped != null && role.listen != [role.shipped]) roles;
  socketText = role: let
    streams = lib.concatMapStringsSep "\n" (address: "ListenStream=${address}") roles.${role}.listen;
    plain = {
      "share for other machines" = "plain share for any Nix";
      "FileDescriptorName=share" = "FileDescriptorName=plain";
    };
    changes =
      {
        "ListenStream=127.0.0.1:7649" = streams;
        "ListenStream=[::]:7650" = streams;
      }
      // lib.optionalAttrs (role == "plain") plain;
  in
    builtins.replaceStrings (lib.attrNames changes) (lib.attrValues changes) (builtins.readFile roles.${role}.unit);

  # -- Firewall --
  outside = lib.filter (address: !isLoopback address) (cfg.settings.share.listen ++ cfg.settings.share.plain_listen);
  openPorts = {
    allowedTCPPorts = lib.unique (map port outside ++ lib.optionals cfg.settings.discovery.peerix [12304 9999]);
    # Multicast DNS, and the broadcasts of predecessors.
    allowedUDPPorts = lib.optional cfg.settings.discovery.mdns 5353 ++ lib.optionals cfg.settings.discovery.peerix [12304 9999];
  };

  # -- Places --
  # Of what the unit hides (InaccessiblePaths=), where a store may be.
  hiddenPlaces = ["/srv" "/mnt" "/media"];
  isHidden = place: lib.any (path: path == place || lib.hasPrefix "${place}/" path) (with cfg.settings.store; [dir state_dir root]);

  # -- Trust --
  # What the gateway is told to trust is all that it trusts.
  trustsNoUpstream =
    cfg.settings.trust.public_keys
    != null
    && lib.any (upstream: (upstream.url or upstream) == "https://cache.nixos.org") cfg.settings.gateway.upstreams
    && !lib.any (lib.hasPrefix "cache.nixos.org-1:") cfg.settings.trust.public_keys;

  gatewayUrl = "http://${lib.head cfg.settings.gateway.listen}";

  taken = "When its contents change, reload the service (where systemd is older than 260, restart it).";
  restarted = "When its contents change, restart the service.";
  secret = what: example: change:
    mkOption {
      type = types.nullOr types.path;
      default = null;
      inherit example;
      description = ''
        ${what} Handed to the service as a systemd credential, so only root has to be able to read the file, and it must not be in the
        Nix store, which everybody can read. ${change}
      '';
    };
  inStore = file: file != null && lib.hasPrefix builtins.storeDir (toString file);
in {
  imports = [./migration.nix ./direct-link.nix ./tune.nix ./monitoring.nix];

  options.services.peernix = {
    enable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = ''
        Whether to enable Peernix, which shares the Nix store with other machines on the network. Switching it off takes the gateway out of
        Nix's substituters in the same step; shells and builds that began before still ask it, so let them end first.
      '';
    };

    package = mkOption {
      type = types.package;
      default = pkgs.peernix or (pkgs.callPackage ./package.nix {});
      defaultText = lib.literalExpression "pkgs.peernix or (pkgs.callPackage ./package.nix { })";
      description = "The package with the programs and units of Peernix.";
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = toml.type;
        options = import ./settings.nix {inherit lib;};
      };
      default = {};
      example = lib.literalExpression ''
        {
          share.policy = "signed+own";
          share.deny = [ "*-secret*" ];
          fleet.mode = "static";
          fleet.nodes = [ "NODEID" ];
        }
      '';
      description = ''
        What is in {file}`/etc/peernix/config.toml`; see {manpage}`peernix.toml(5)`. Whether the service accepts it is tried when the
        system is built.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to let other machines in: to the share, to the plain share if there is one, and to multicast DNS (UDP 5353).
      '';
    };

    interfaces = mkOption {
      type = types.listOf types.str;
      default = [];
      example = ["enp3s0"];
      description = ''
        The network interfaces on which other machines are looked for and, with {option}`services.peernix.openFirewall`, let in. The
        empty list is all.
      '';
    };

    configureNix = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether this machine's Nix asks the gateway, before its other substituters, which stay as they are. To keep the service and
        have Nix go without the gateway, this is what to switch off, and not the socket: a Nix that has seen a substituter does not simply
        go on when it is gone.
      '';
    };

    narinfoCacheNegativeTtl = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = 60;
      description = ''
        For how many seconds Nix remembers that a cache does not have a path (`narinfo-cache-negative-ttl`, with
        {option}`services.peernix.configureNix`). Nix's own default is an hour, and for that long it would not ask again for what
        another machine has built a minute ago. The price is that caches on the Internet are asked again as well. `null` leaves Nix alone.
      '';
    };

    signingKeyFile =
      secret ''
        A file with a secret key, as `nix key generate-secret` writes it, that signs what was built here, with
        `settings.share.policy = "signed+own"`. Without it the service makes a key of its own.
      '' "/run/secrets/peernix-signing-key"
      taken;

    nodeKeyFile =
      secret ''
        A file with the key that is this machine's identity on the network (32 bytes). Without it the service makes one and keeps it in
        its state directory.
      '' "/run/secrets/peernix-node-key"
      restarted;

    fleetKeyFile =
      secret ''
        A file with the secret half of the fleet key (32 bytes), on the machine that lets others in. Without it {command}`peernixctl fleet init`
        makes one and keeps it in the state directory of the service.
      '' "/run/secrets/peernix-fleet-key"
      restarted;

    credentials = mkOption {
      type = types.attrsOf types.path;
      default = {};
      example = {cache-login = "/run/secrets/cache-netrc";};
      description = ''
        Files with the logins for upstreams, each by the name that `credential` in `settings.gateway.upstreams` gives it. Handed to the
        service as systemd credentials, so only root has to be able to read them, and they must not be in the Nix store, which everybody
        can read. When the contents of one change, reload the service (where systemd is older than 260, restart it).
      '';
    };

    admins = mkOption {
      type = types.listOf types.str;
      default = [];
      example = ["alice"];
      description = ''
        Users who may change things with {command}`peernixctl` without being asked for a password: the members of the group `peernix-admin`.
        Everybody may look.
      '';
    };

    notifications.enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether desktop sessions show notifications of peers that come and go.";
    };

    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether {command}`peernixd --check-config` tries {option}`services.peernix.settings` when the system is built. Never done when
        the system is built on a machine that cannot run its programs.
      '';
    };
  };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions = [
        {
          assertion = !inStore cfg.signingKeyFile;
          message = ''
            services.peernix.signingKeyFile is ${toString cfg.signingKeyFile}, in the Nix store, where everybody can read it. Give the path of
            a file outside as a string, such as "/run/secrets/peernix-signing-key", and make a new key: this one is no secret any more.
          '';
        }
        {
          assertion = !inStore cfg.nodeKeyFile;
          message = ''
            services.peernix.nodeKeyFile is ${toString cfg.nodeKeyFile}, in the Nix store, where everybody can read it. Give the path of a file
            outside as a string, such as "/run/secrets/peernix-node-key", and make a new key: this one is no secret any more.
          '';
        }
        {
          assertion = !inStore cfg.fleetKeyFile;
          message = ''
            services.peernix.fleetKeyFile is ${toString cfg.fleetKeyFile}, in the Nix store, where everybody can read it. Give the path of a file
            outside as a string, such as "/run/secrets/peernix-fleet-key", and make a new key: this one is no secret any more.
          '';
        }
        {
          assertion = !lib.any inStore (lib.attrValues cfg.credentials);
          message = ''
            services.peernix.credentials has a file in the Nix store, where everybody can read it: ${toString (lib.filter inStore (lib.attrValues cfg.credentials))}. Give the path
            of a file outside as a string, such as "/run/secrets/cache-netrc", and have the login replaced: this one is no secret any more.
          '';
        }
        {
          assertion = !lib.any (name: lib.elem name ["signing-key" "node-key" "fleet-key"]) (lib.attrNames cfg.credentials);
          message = ''
            services.peernix.credentials has a name that is taken by the keys of the service. Use services.peernix.signingKeyFile,
            services.peernix.nodeKeyFile and services.peernix.fleetKeyFile for those, and another name for a login.
          '';
        }
        {
          assertion = cfg.settings.share.policy == "signed+own" -> cfg.settings.fleet.mode != "open";
          message = ''
            services.peernix.settings.share.policy = "signed+own" offers what was built here to enrolled machines, and with
            settings.fleet.mode = "open" there are none. Set settings.fleet.mode = "fleet", or
            settings.fleet.mode = "static" and list their node ids in settings.fleet.nodes.
          '';
        }
        {
          assertion = cfg.settings.fleet.mode == "static" -> cfg.settings.fleet.nodes != [];
          message = ''
            services.peernix.settings.fleet.mode = "static" admits the machines of settings.fleet.nodes, which is empty. List their node ids;
            `peernixctl status` on each shows it.
          '';
        }
        {
          assertion = cfg.settings.gateway.listen != [] && lib.all isLoopback cfg.settings.gateway.listen;
          message = ''
            services.peernix.settings.gateway.listen must be one or more addresses on loopback, such as "127.0.0.1:7649": whoever reaches the
            gateway can make this machine download. To serve machines without Peernix there is settings.share.plain_listen.
          '';
        }
        {
          assertion = cfg.openFirewall -> !lib.elem 0 openPorts.allowedTCPPorts;
          message = ''
            services.peernix.settings.share.listen or plain_listen has port 0, so nobody can tell the firewall which port to open. Give a
            port, or set services.peernix.openFirewall = false.
          '';
        }
        {
          assertion = cfg.configureNix -> lib.all (address: !lib.hasSuffix ":0" address) cfg.settings.gateway.listen;
          message = ''
            services.peernix.settings.gateway.listen has port 0, so nobody can tell Nix where the gateway is. Give a port, or set
            services.peernix.configureNix = false.
          '';
        }
      ];
      warnings =
        lib.optional (cfg.openFirewall && outside == [])
        "services.peernix.openFirewall opens no port for the share: settings.share.listen and plain_listen are nowhere or on loopback."
        ++ lib.optional (cfg.signingKeyFile != null && cfg.settings.share.policy != "signed+own") ''
          services.peernix.signingKeyFile is set, but nothing is signed: only settings.share.policy = "signed+own" offers what was built here.
        ''
        ++ lib.optional trustsNoUpstream ''
          services.peernix.settings.trust.public_keys does not have the key of cache.nixos.org, so the gateway hands nothing of it to Nix, although
          settings.gateway.upstreams names it. The list takes the place of nix.settings.trusted-public-keys: repeat there what it should keep.
        '';

      services.peernix.settings = {
        keys.signing = mkIf (cfg.signingKeyFile != null) (mkDefault "credential");
        # The file names every key, so that what follows from the profile is said in it, too.
        fleet.mode = mkIf (modes ? ${profile}) (mkDefault modes.${profile});
        share = mkMerge [
          (mkIf (profile == "fleet") {policy = mkDefault "signed+own";})
          (mkIf (profile == "receive-only") {
            policy = mkDefault "off";
            listen = mkDefault "";
            index = mkDefault false;
            relay = mkDefault false;
          })
        ];
        discovery.interfaces = mkIf (cfg.interfaces != []) (mkDefault cfg.interfaces);
      };

      # A fixed place, so that a new file is a reload and not a changed unit.
      environment.etc."peernix/config.toml".source = configFile;
      environment.systemPackages = [cfg.package];

      users.users.peernix = {
        isSystemUser = true;
        group = "peernix";
        description = "Nix store sharing";
      };
      users.groups.peernix = {};
      users.groups.peernix-admin.members = cfg.admins;

      services.dbus.packages = [cfg.package];
      # Whether a caller on D-Bus may change something is asked of polkit, which finds the package's rules among the system's packages.
      security.polkit.enable = mkDefault true;

      systemd.packages = [cfg.package];
      systemd.tmpfiles.packages = [cfg.package];
      systemd.services.peernix = {
        # NixOS does not read [Install].
        wantedBy = ["multi-user.target"];
        aliases = ["dbus-org.peernix.Peernix1.service"];
        wants = map ownSocket (lib.attrNames ownSockets);
        after = map ownSocket (lib.attrNames ownSockets);
        # One step, with the sockets left alone: connections wait in them, and none is refused.
        stopIfChanged = false;
        # Whatever starts sockets on a switch must not leave it to the next connection to start the service, which others have to find
        # before that.
        notSocketActivated = true;
        restartTriggers = [(builtins.toJSON fixed)];
        # The proxies of the Nix daemon.
        environment = config.networking.proxy.envVars;
        # Which keys are trusted is in nix.conf.
        reloadTriggers = [configFile] ++ lib.optional config.nix.enable config.environment.etc."nix/nix.conf".source;
        # In place of those of the same name that the unit looks for in /etc/credstore.
        serviceConfig = mkMerge [
          (mkIf (cfg.signingKeyFile != null || cfg.nodeKeyFile != null || cfg.fleetKeyFile != null || cfg.credentials != {}) {
            LoadCredential =
              lib.optional (cfg.signingKeyFile != null) "signing-key:${toString cfg.signingKeyFile}"
              ++ lib.optional (cfg.nodeKeyFile != null) "node-key:${toString cfg.nodeKeyFile}"
              ++ lib.optional (cfg.fleetKeyFile != null) "fleet-key:${toString cfg.fleetKeyFile}"
              ++ lib.mapAttrsToList (name: file: "${name}:${toString file}") cfg.credentials;
          })
          # A store in a place that the unit hides.
          (mkIf (lib.any isHidden hiddenPlaces) {
            InaccessiblePaths = [""] ++ map (place: "-${place}") (["/boot" "/efi"] ++ lib.filter (place: !isHidden place) hiddenPlaces);
          })
          (mkIf (lib.any isHidden ["/home" "/root"]) {ProtectHome = "read-only";})
        ];
      };
      systemd.sockets =
        lib.genAttrs ["peernix-varlink" "peernix-admin"] (_: {wantedBy = ["sockets.target"];})
        // lib.mapAttrs' (role: _: lib.nameValuePair "peernix-${role}" {wantedBy = ["sockets.target"];})
        (lib.filterAttrs (_: role: role.listen == [role.shipped]) roles)
        // lib.mapAttrs' (role: _: lib.nameValuePair "peernix-${role}" {enable = false;}) unusedSockets;
      systemd.units = lib.mapAttrs' (role: _:
        lib.nameValuePair (ownSocket role) {
          text = socketText role;
          wantedBy = ["sockets.target"];
        })
      ownSockets;
    }

    (mkIf config.nix.enable {
      # What cannot be read from the store's database is asked of the nix-daemon. As a user like any other, not a trusted one.
      # `extra-`: without a list of its own, Nix lets everybody in, and a list would end that.
      nix.settings.extra-allowed-users = ["peernix"];
    })

    (mkIf (cfg.configureNix && config.nix.enable) {
      nix.settings = {
        substituters = lib.mkBefore [gatewayUrl];
        trusted-public-keys = mkIf (cfg.settings.trust.public_keys != null) cfg.settings.trust.public_keys;
        narinfo-cache-negative-ttl = mkIf (cfg.narinfoCacheNegativeTtl != null) (mkDefault cfg.narinfoCacheNegativeTtl);
      };
    })

    (mkIf cfg.openFirewall {
      networking.firewall =
        if cfg.interfaces == []
        then openPorts
        else {interfaces = lib.genAttrs cfg.interfaces (_: openPorts);};
    })

    (mkIf cfg.notifications.enable {
      systemd.user.services.peernix-notifier.wantedBy = ["graphical-session.target"];
      # For desktops whose session systemd does not manage; the others skip it.
      environment.etc."xdg/autostart/peernix-notifier.desktop".source = "${cfg.package}/share/applications/org.peernix.Notifier.desktop";
    })
  ]);
}
