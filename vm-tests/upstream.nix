# `internet` is all of the Internet that there is: a binary cache, in a network that c is not in.
{
  timeout = 120;
  defaults.services.peernix.settings = {
    gateway.upstreams = ["http://192.168.2.4"];
    discovery.interfaces = ["eth1"];
  };
  nodes = {
    a.virtualisation.vlans = [1 2];
    b.virtualisation.vlans = [1 2];
    c = {};
    internet = import ./internet.nix // {virtualisation.vlans = [2];};
  };
}
