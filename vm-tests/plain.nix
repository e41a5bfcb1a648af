# a shares with any Nix; the others have no Peernix, one of them an old Nix (2.8).
{
  timeout = 90;
  nodes = {
    a.services.peernix.settings.share.plain_listen = "[::]:5000";
    client = {
      services.peernix.enable = false;
      nix.settings.substituters = ["http://a:5000"];
    };
    old = {
      vmTest.tree = "bookworm";
      services.peernix.enable = false;
      nix.settings.substituters = ["http://a:5000"];
    };
  };
}
