# One machine, and one that shows that the service in its sandbox still works.
{
  trees = ["trixie" "bookworm"];
  nodes = {
    machine = {};
    other = {};
  };
}
