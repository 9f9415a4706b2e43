# The port of `repd serve` without --listen, out of the one place where defaults are written.
{ lib }:
let
  lines = lib.splitString "\n" (builtins.readFile ../src/config.rs);
  port = line: builtins.match "pub const PORT: u16 = ([0-9]+);" line;
in
lib.toInt (lib.head (lib.concatMap (line: lib.toList (lib.defaultTo [ ] (port line))) lines))
