# One machine whose disks are full, and one that it gets paths from.
{
  timeout = 90;
  nodes = {
    machine = {};
    source = {};
  };
}
