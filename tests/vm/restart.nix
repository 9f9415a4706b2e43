{
  client,
  server,
  stories,
}:
{
  nodes = { inherit client server; };

  testScript = stories + ''
    start_all()
    restart(server, client, "tcp://server:5555")
  '';
}
