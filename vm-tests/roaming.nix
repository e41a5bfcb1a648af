# The laptop is plugged into two networks, of which the script lets it be in one at a time: home and office.
{
  timeout = 120;
  nodes = {
    laptop.virtualisation.vlans = [1 2];
    home.virtualisation.vlans = [1];
    office.virtualisation.vlans = [2];
  };
}
