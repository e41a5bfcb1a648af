# As NixOS's own, with stand-ins for the options that Peernix sets. They have the names and types of NixOS, and there are no others, so
# a misspelt one is an error.
{
  lib ? import ../../lib,
  system,
  pkgs ? import ../.. {inherit lib system;},
  modules,
}: let
  evaluated = lib.evalModules {
    modules = [./options.nix {_module.args = {inherit pkgs;};}] ++ modules;
  };
  failed = map (assertion: assertion.message) (lib.filter (assertion: !assertion.assertion) evaluated.config.assertions);
in
  evaluated
  // {
    inherit failed;
    # All that NixOS would look at when it builds a system.
    checked =
      if failed == []
      then builtins.deepSeq evaluated.config.looked evaluated.config
      else throw "Failed assertions:\n${lib.concatStringsSep "\n" failed}";
  }
