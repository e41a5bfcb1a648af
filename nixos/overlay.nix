# Adds `pkgs.peernix`.
final: _prev: {
  peernix = final.callPackage ./package.nix {};
}
