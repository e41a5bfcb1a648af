# Configurations that are refused, by name: their `modules`, and words of the one reason that is given.
let
  fails = options: words: {
    modules = [{services.peernix = {enable = true;} // options;}];
    fails = words;
  };
in {
  "a signing key in the store" = fails {
    signingKeyFile = "${builtins.storeDir}/00000000000000000000000000000000-key";
    settings.share.policy = "signed+own";
    settings.fleet = {
      mode = "static";
      nodes = ["anybody"];
    };
  } ["signingKeyFile" "in the Nix store"];
  "a node key in the store" = fails {nodeKeyFile = "${builtins.storeDir}/00000000000000000000000000000000-key";} ["nodeKeyFile" "in the Nix store"];
  "a fleet key in the store" = fails {fleetKeyFile = "${builtins.storeDir}/00000000000000000000000000000000-key";} ["fleetKeyFile" "in the Nix store"];
  "a login in the store" = fails {credentials.login = "${builtins.storeDir}/00000000000000000000000000000000-netrc";} ["credentials" "in the Nix store"];
  "a login by the name of a key" = fails {credentials.node-key = "/run/secrets/x";} ["name that is taken" "nodeKeyFile"];
  "own paths without a fleet" = fails {settings.share.policy = "signed+own";} ["fleet.mode = \"static\""];
  "a fleet of nobody" = fails {settings.fleet.mode = "static";} ["settings.fleet.nodes"];
  "a gateway for the network" = fails {settings.gateway.listen = ["127.0.0.1:7649" "0.0.0.0:7649"];} ["must be" "on loopback"];
  "a gateway nowhere" = fails {settings.gateway.listen = "";} ["must be" "on loopback"];
  "a gateway on any port" = fails {settings.gateway.listen = "127.0.0.1:0";} ["port 0"];
  "a share on any port, and a firewall" = fails {
    openFirewall = true;
    settings.share.plain_listen = "[::]:0";
  } ["port 0" "openFirewall"];

  "from the other Peernix: the user" = fails {user = "cache";} ["services.peernix.user" "no longer has any effect"];
  "from the other Peernix: the group" = fails {group = "cache";} ["services.peernix.group" "no longer has any effect"];
  "from the other Peernix: the state" = fails {dataDir = "/srv/peernix";} ["services.peernix.dataDir" "/var/lib/peernix"];
  "from the other Peernix: settings" = fails {settings.http-port = 9999;} ["http-port: Set settings.share.listen" "openFirewall was true"];
  "from peerix, without its module" = {
    modules = [
      {services.peernix.enable = true;}
      {
        services.peerix.enable = true;
        services.peerix.globalCacheTTL = 10;
      }
    ];
    fails = ["services.peerix.enable: Set services.peernix.enable" "services.peerix.globalCacheTTL: Set services.peernix.narinfoCacheNegativeTtl"];
  };
  "from peerix, without its module, nothing enabled here" = {
    modules = [{services.peerix.enable = true;}];
    fails = ["services.peerix.enable: Set services.peernix.enable"];
  };
}
