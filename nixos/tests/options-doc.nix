# docs/nixos-options.md: what the module's options say of themselves.
{
  lib,
  evaluate,
}: let
  inherit ((evaluate []).options.services) peernix;
  all = lib.filter (option: option.visible && !option.internal && !lib.hasInfix "_module" option.name && !lib.hasPrefix "services.peerix" option.name) (
    lib.optionAttrSetToDocList {services = {inherit peernix;};}
  );
  prose = import ./prose.nix;
  value = name: shown: let
    text = lib.removeSuffix "\n" shown.text;
  in
    if lib.hasInfix "\n" text
    then "\n${name}:\n\n```nix\n${text}\n```\n"
    else "\n${name}: `${text}`\n";
  entry = option:
    "\n## `${option.name}`\n\n${prose option.description}\n\nType: ${option.type}\n"
    + lib.optionalString (option ? default) (value "Default" option.default)
    + lib.optionalString (option ? example) (value "Example" option.example);
in
  ''
    # NixOS options

    Made from nixos/module.nix by `make nixos-docs`; `make nixos-check` fails when it is not current.
  ''
  + lib.concatMapStrings entry all
