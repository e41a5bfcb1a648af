# What systemd/ says, in the form in which it is compared with what the module makes.
{lib}: let
  folder = ../../systemd;
  lines = text: lib.filter (line: line != "" && !lib.hasPrefix "#" line) (lib.splitString "\n" text);

  # "[A]\nB=1\nB=2\n" → { A.B = ["1" "2"]; }
  parse = text:
    (lib.foldl' (state: line:
        if lib.hasPrefix "[" line
        then state // {section = lib.removeSuffix "]" (lib.removePrefix "[" line);}
        else let
          parts = lib.splitString "=" line;
          key = lib.head parts;
          value = lib.concatStringsSep "=" (lib.tail parts);
          old = state.result.${state.section}.${key} or [];
        in
          state
          // {result = lib.recursiveUpdate state.result {${state.section}.${key} = old ++ [value];};})
      {
        section = null;
        result = {};
      } (lines text))
    .result;

  words = values: lib.concatMap (value: lib.filter (word: word != "") (lib.splitString " " value)) values;
  unit = name: parse (builtins.readFile (folder + "/${name}"));
  endingIn = suffix: lib.filter (lib.hasSuffix suffix) (lib.attrNames (builtins.readDir folder));
in {
  inherit parse words unit;
  service = unit "peernix.service";
  sockets = lib.genAttrs (endingIn ".socket") unit;
  # The first words of each line of the file for systemd-sysusers: u NAME, g NAME.
  users = map (line: lib.take 2 (words [line])) (lines (builtins.readFile (folder + "/peernix.sysusers")));
}
