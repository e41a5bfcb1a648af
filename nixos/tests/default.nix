# Evaluates the module for a table of configurations and compares what comes out; `make nixos-check` runs it.
#
# Gives { passed, failures, configs, options }: texts, the configuration file of each case, and the documentation of all options.
{
  lib,
  # A stand-in for nixpkgs around this lib. NixOS itself is what `nix flake check` has (nixos/checks.nix).
  system ? "x86_64-linux",
}: let
  pkgs = import ./nixpkgs {inherit lib system;};
  package = pkgs.writeText "peernix" "a stand-in";
  evaluate = modules:
    import ./nixpkgs/nixos/lib/eval-config.nix {
      inherit lib system pkgs;
      modules = [../module.nix {services.peernix.package = lib.mkDefault package;}] ++ modules;
    };

  # The text of the file of a case, which is not behind the check at build time.
  fileOf = case:
    (evaluate (case.modules ++ [{services.peernix.checkConfig = lib.mkForce false;}]))
    .config
    .environment
    .etc
    ."peernix/config.toml"
    .source
    .text;

  cases =
    import ./cases.nix {
      inherit lib pkgs package;
      units = import ./units.nix {inherit lib;};
    }
    // import ./refusals.nix;
  results = lib.concatMap (name: let
    case = cases.${name};
    evaluated = evaluate case.modules;
    inherit (evaluated) config;
    # Deep, so that nothing is wrong in a corner that no check looks at.
    sound = case ? fails || builtins.deepSeq config.looked true;
    checks =
      if case ? fails
      then {
        "is refused, with the reason" = {
          got = lib.length evaluated.failed == 1 && lib.all (word: lib.hasInfix word (lib.head evaluated.failed)) case.fails;
          want = true;
          shown = evaluated.failed;
        };
      }
      else
        {
          "nothing is refused" = {
            got = evaluated.failed;
            want = [];
          };
          "warnings are as expected" = {
            got = map (warning: lib.filter (word: lib.hasInfix word warning) case.warns) config.warnings;
            want = map lib.singleton (case.warns or []);
            shown = config.warnings;
          };
        }
        // case.checks (config // {test.text = fileOf case;});
  in
    assert sound;
      lib.mapAttrsToList (what: check: {
        ok = check.got == check.want;
        text = "${name}: ${what}";
        problem = "${name}: ${what}: got ${builtins.toJSON (check.shown or check.got)}, expected ${builtins.toJSON check.want}";
      })
      checks) (lib.attrNames cases);

  # Those that evaluate, for the real `peernixd --check-config`.
  sound = lib.filterAttrs (_: case: !(case ? fails) && (case.file or true)) cases;
in {
  passed = map (result: result.text) (lib.filter (result: result.ok) results);
  failures = map (result: result.problem) (lib.filter (result: !result.ok) results);
  configs = lib.mapAttrs (_: fileOf) sound;
  options = import ./options-doc.nix {inherit lib evaluate;};
}
