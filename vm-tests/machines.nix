# The machines of machines.py: nothing but the system.
{
  trees = ["trixie" "bookworm"];
  defaults.services.peernix.enable = false;
  nodes = {
    a = {};
    b = {};
  };
}
