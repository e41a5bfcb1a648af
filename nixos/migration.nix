# Hints for those who come from peerix (`services.peerix`) or from the other Peernix, which is written in Go and has `services.peernix`
# too. They show only when such an option is set. The module of peerix may be imported beside this one; that of the other Peernix cannot,
# because both declare `services.peernix.enable`.
{
  config,
  lib,
  options,
  ...
}: let
  inherit (lib) mkOption mkRemovedOptionModule types;
  peerix = config.services.peerix;

  # True when the module of peerix itself is imported.
  peerixIsHere = (options.services.peerix.type.getSubOptions []) ? enable;
  forPeerix = {
    enable = "Set services.peernix.enable.";
    openFirewall = "Set services.peernix.openFirewall, which is false by default.";
    privateKeyFile = ''
      Nothing has to be signed to share what came from a cache. For what is built here: services.peernix.signingKeyFile and
      settings.share.policy = "signed+own".'';
    publicKey = "List the keys of other machines in nix.settings.trusted-public-keys.";
    publicKeyFile = "List the keys of other machines in nix.settings.trusted-public-keys.";
    user = "Peernix runs as the user peernix; delete the line.";
    group = "Peernix runs as the group peernix; delete the line.";
    globalCacheTTL = "Set services.peernix.narinfoCacheNegativeTtl.";
    package = "Set services.peernix.package.";
  };
  peerixSet = lib.attrNames (lib.filterAttrs (_: value: value != null) peerix);

  goSettings = {
    udp-port = "Machines find each other by multicast DNS (settings.discovery.mdns); there is no port to choose.";
    http-port = "Set settings.share.listen, or settings.share.plain_listen for machines without Peernix.";
    signing-enabled = ''Set settings.share.policy = "signed+own" to offer what was built here.'';
    compression-enabled = "Delete the line: nothing is compressed on the local network, where that only costs time.";
    discovery-interval = "Delete the line: other machines are seen when they come and go.";
    peer-ttl = "Delete the line: a peer that does not answer is asked less and less.";
    max-connections = "Set settings.share.max_connections.";
    request-timeout = "Set settings.limits.idle_timeout.";
  };
  goSettingsSet = lib.attrNames (builtins.intersectAttrs goSettings config.services.peernix.settings);
in {
  imports = [
    (mkRemovedOptionModule ["services" "peernix" "user"] "Peernix runs as the user peernix; delete the line.")
    (mkRemovedOptionModule ["services" "peernix" "group"] "Peernix runs as the group peernix; delete the line.")
    (mkRemovedOptionModule ["services" "peernix" "dataDir"] "Peernix keeps its state in /var/lib/peernix; delete the line.")
  ];

  # A submodule, and not one option each: it merges with the options of peerix's own module where that is imported as well.
  options.services.peerix = mkOption {
    type = types.submodule {freeformType = types.lazyAttrsOf types.raw;};
    default = {};
    visible = false;
    description = "Options of peerix, which this module only gives hints about.";
  };

  config = {
    assertions = [
      {
        assertion = peerixIsHere || peerixSet == [];
        message =
          "services.peerix is set, but the module of peerix is not imported. Peernix takes its place:\n"
          + lib.concatMapStrings (name: "  services.peerix.${name}: ${forPeerix.${name} or "Peernix has no such option; delete the line."}\n") peerixSet;
      }
      {
        assertion = goSettingsSet == [];
        message =
          "services.peernix.settings has keys of another program of the same name (whose openFirewall was true by default; here it is false):\n"
          + lib.concatMapStrings (name: "  ${name}: ${goSettings.${name}}\n") goSettingsSet;
      }
    ];
    warnings = lib.optional (peerixIsHere && (peerix.enable or false) && config.services.peernix.enable) ''
      services.peerix and services.peernix are both enabled. They do not disturb each other, but Nix asks both: for a change-over that is
      right; afterwards, remove services.peerix.
    '';
  };
}
