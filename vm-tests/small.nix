# A machine whose service may have little memory, and one that has much to send.
{
  needs = ["cgroup-limits"];
  timeout = 180;
  nodes = {
    machine.virtualisation.memorySize = 4096;
    source = {};
  };
}
