{
  client,
  server,
  stories,
}:
{
  nodes = { inherit client server; };

  testScript = stories + ''
    start_all()
    stop(server, client, "tcp://server:5555")
  '';
}
