# Ten machines, and a binary cache that stands for the Internet.
{
  timeout = 180;
  defaults.services.peernix.settings.gateway.upstreams = ["http://internet"];
  nodes = {
    internet = import ./internet.nix;
    m0 = {};
    m1 = {};
    m2 = {};
    m3 = {};
    m4 = {};
    m5 = {};
    m6 = {};
    m7 = {};
    m8 = {};
    m9 = {};
  };
}
