# Parses an endpoint by the rules of src/endpoint.rs into { host, port }, { srv }, { path } or { socket }.
# Returns { } for anything else. Port 0 means that the system chooses one.
{ lib }:
text:
let
  name = "[^][:space:][:cntrl:]/;,:@[]+";
  bracketed = "\\[[^][:space:][:cntrl:][]*:[^][:space:][:cntrl:][]*]";
  tcp = builtins.match "tcp://(${name}|${bracketed}):(\\*|0*[0-9]{1,5})" text;
  port = if lib.last tcp == "*" then 0 else lib.toIntBase10 (lib.last tcp);
  label = "[A-Za-z0-9_-]";
  srv = builtins.match "tcp://(_${label}{0,62}(\\.${label}{1,63}){2,}\\.?)" text;
  ipc = builtins.match "ipc://([^[:space:][:cntrl:]]{1,107})" text;
  path = lib.head ipc;
  socket = builtins.match "fd://([^/:[:space:][:cntrl:]]{1,255})" text;
  isPlace =
    if lib.hasPrefix "@" path then
      path != "@"
    else
      path != "*" && builtins.match "(.*/)?(\\.|\\.\\.)?" path == null;
in
if tcp != null && port <= 65535 then
  {
    host = lib.head tcp;
    inherit port;
  }
else if srv != null && lib.stringLength (lib.head srv) <= 253 then
  { srv = lib.head srv; }
else if ipc != null && isPlace then
  { inherit path; }
else if socket != null then
  { socket = lib.head socket; }
else
  { }
