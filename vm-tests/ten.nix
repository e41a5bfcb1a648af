# Ten machines, and a binary cache that stands for the Internet.
{
  timeout = 180;
  defaults.services.peernix.settings.gateway = {
    upstreams = ["http://internet"];
    # Ten machines make 90 connections at once on the processors of one, beside what else is tested there. A peer that has not answered
    # when this is over is done without.
    budget_ms = 3000;
  };
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
