# Descriptions of options as Markdown on one line. With builtins alone, as it is used where there is no lib too.
text: let
  words = builtins.filter (part: builtins.isString part && part != "") (builtins.split "[[:space:]]+" text);
  line = builtins.concatStringsSep " " words;
in
  # {option}`x`, {file}`x` and the like are for the NixOS manual.
  builtins.replaceStrings ["{option}`" "{file}`" "{command}`" "{manpage}`"] ["`" "`" "`" "`"] line
