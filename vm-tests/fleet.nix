# a founds a fleet, b joins it by a code, c stays a stranger. The script writes the configuration: the key of the fleet is not known before.
{
  timeout = 120;
  nodes = {
    a = {};
    b = {};
    c = {};
  };
}
