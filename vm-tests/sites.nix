# Two sites with two machines each, in networks of their own (1 and 2), and a network between them (3) with the NATS server.
let
  machine = site: network: {
    services.peernix.settings = {
      discovery.interfaces = ["eth1"];
      nats = {
        servers = ["nats://hub:4222"];
        inherit site;
      };
    };
    virtualisation.vlans = [network 3];
  };
in {
  timeout = 120;
  nodes = {
    a = machine "berlin" 1;
    b = machine "berlin" 1;
    c = machine "paris" 2;
    d = machine "paris" 2;
    hub = {
      services.peernix.enable = false;
      nix.settings.substituters = [];
      virtualisation.vlans = [3];
    };
  };
}
