# a has paths that it must not give away; b is its peer, and asks on the plain share as anybody can.
{
  timeout = 90;
  nodes = {
    a.services.peernix.settings.share = {
      plain_listen = "[::]:5000";
      deny = ["*-secret*"];
      # So that b asks for what a would not tell it of.
      index = false;
    };
    b = {};
  };
}
