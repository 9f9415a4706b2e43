# The default port of `repd serve`, read from src/config.rs, where every default is written once.
{ lib }:
let
  lines = lib.splitString "\n" (builtins.readFile ../src/config.rs);
  port = line: builtins.match "pub const PORT: u16 = ([0-9]+);" line;
in
lib.toInt (lib.head (lib.concatMap (line: lib.toList (lib.defaultTo [ ] (port line))) lines))
