# Whether docs/nixos-options.md has every option and its description, where there is no lib of nixpkgs to make it anew from: a list of what
# is wrong with it. What stands for the lib here only reads declarations; types and defaults are compared by `make nixos-check` with a lib.
let
  prose = import ./prose.nix;
  any = null;
  types = {
    bool = any;
    int = any;
    str = any;
    path = any;
    package = any;
    enum = _: any;
    strMatching = _: any;
    # The options of its elements are called NAME.*.OPTION.
    listOf = element:
      if element ? options
      then {options."*" = element.options;}
      else any;
    attrsOf = _: any;
    nullOr = _: any;
    either = _: _: any;
    coercedTo = _: _: _: any;
    submodule = module: module;
    ints = {
      between = _: _: any;
      unsigned = any;
      positive = any;
      u8 = any;
    };
  };
  mkOption = declaration: declaration // {isOption = true;};
  lib = {
    inherit types mkOption;
    mkEnableOption = what: mkOption {description = "Whether to enable ${what}.";};
    literalExpression = any;
  };
  modules = map (file:
    import file {
      inherit lib;
      config = any;
      pkgs.formats.toml = _: {type = any;};
    }) [../module.nix ../direct-link.nix ../tune.nix ../monitoring.nix];

  # Every option below: { name, description }.
  below = name: declarations:
    builtins.concatLists (map (key: declared "${name}.${key}" declarations.${key}) (builtins.attrNames declarations));
  declared = name: declaration:
    if declaration ? isOption
    then
      [
        {
          inherit name;
          description = prose declaration.description;
        }
      ]
      ++ (
        if (declaration.type or any) ? options
        then below name declaration.type.options
        else []
      )
    else below name declaration;
  options = builtins.listToAttrs (map (option: {
    inherit (option) name;
    value = option.description;
  }) (builtins.concatLists (map (module: below "services.peernix" module.options.services.peernix) modules)));

  # "## `NAME`\n\nDESCRIPTION\n\n…" of each section.
  sections = builtins.filter builtins.isString (builtins.split "\n## `" (builtins.readFile ../../docs/nixos-options.md));
  described = builtins.listToAttrs (map (section: let
    lines = builtins.filter builtins.isString (builtins.split "\n" section);
  in {
    name = builtins.head (builtins.split "`" (builtins.head lines));
    value = builtins.elemAt lines 2;
  }) (builtins.tail sections));

  names = set: builtins.attrNames set;
in
  map (name: "${name} is not there") (names (removeAttrs options (names described)))
  ++ map (name: "${name} is no option") (names (removeAttrs described (names options)))
  ++ map (name: "the description of ${name} is another one")
  (builtins.filter (name: options.${name} != described.${name}) (names (builtins.intersectAttrs described options)))
