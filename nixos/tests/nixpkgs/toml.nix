# The type of TOML documents and their text, as far as configurations of Peernix go: tables of tables of plain values and lists.
{lib}: let
  inherit (lib) types;
  value =
    types.oneOf [types.bool types.int types.float types.str types.path (types.attrsOf value) (types.listOf value)]
    // {description = "TOML value";};
  isTable = lib.isAttrs;
  key = name:
    if builtins.match "[A-Za-z0-9_-]+" name != null
    then name
    else builtins.toJSON name;
  # A value on one line: only tables in lists are not as in JSON.
  inline = value:
    if builtins.isList value
    then "[${lib.concatMapStringsSep ", " inline value}]"
    else if builtins.isAttrs value
    then "{ ${lib.concatStringsSep ", " (lib.mapAttrsToList (name: entry: "${key name} = ${inline entry}") value)} }"
    else builtins.toJSON value;
  # Strings, numbers, booleans and lists of them are written as in JSON.
  table = path: attributes: let
    plain = lib.filterAttrs (_: entry: !isTable entry) attributes;
    tables = lib.filterAttrs (_: isTable) attributes;
  in
    lib.optionalString (path != []) "[${lib.concatMapStringsSep "." key path}]\n"
    + lib.concatStrings (lib.mapAttrsToList (name: entry: "${key name} = ${inline entry}\n") plain)
    + lib.concatStrings (lib.mapAttrsToList (name: table (path ++ [name])) tables);
in {
  type = types.attrsOf value;
  text = table [];
}
