# One machine under load, and one that it knows.
{
  trees = ["trixie" "bookworm"];
  nodes = {
    machine = {};
    other = {};
  };
}
