# Which machine tests there are in vm-tests/.
{lib}: let
  folder = ../vm-tests;
  files = lib.attrNames (builtins.readDir folder);
  # A .nix file without a script is something that the others import.
  all =
    lib.filter (name: name != "common" && lib.elem "${name}.nix" files)
    (map (lib.removeSuffix ".py") (lib.filter (lib.hasSuffix ".py") files));

  # What the driver can do with a machine that has a kernel of its own, and not with a container.
  ofMachines = [".block()" ".crash()" ".reboot()" ".shutdown()" ".start()" "screenshot" "modprobe"];
  needsMachine = name: let
    test = import (folder + "/${name}.nix");
    script = builtins.readFile (folder + "/${name}.py");
  in
    test.needs or [] != [] || lib.any (call: lib.hasInfix call script) ofMachines;
in {
  inherit all;
  inContainers = lib.filter (name: !needsMachine name) all;
}
