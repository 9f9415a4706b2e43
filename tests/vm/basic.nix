{
  client,
  server,
  stories,
}:
{
  nodes = {
    inherit server;
    closed.services.repd.enable = true;
    client1 = client;
    client2 = client;
  };

  testScript = stories + ''
    start_all()
    basic(server, [client1, client2], "tcp://server:5555")
    status(server)
    closed.wait_for_unit("repd.service")
    # Nobody there, is what the client finds.
    client1.succeed("code=0; repd call --timeout 2 tcp://closed:5555 hello || code=$?; test $code = 1")
  '';
}
