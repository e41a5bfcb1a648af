# A machine with a desktop, and three that come and go.
{
  timeout = 120;
  nodes = {
    desktop.vmTest.tree = "trixie-desktop";
    one = {};
    two = {};
    three = {};
  };
}
