# One machine under load, and one that it knows.
{
  trees = ["trixie" "bookworm"];
  smoke = ["sid"];
  nodes = {
    machine = {};
    other = {};
  };
}
