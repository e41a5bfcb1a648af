# A machine on which administrators, disks and restores do what they do.
{
  trees = ["trixie" "bookworm"];
  smoke = ["sid"];
  nodes.machine = {};
}
