{
  client,
  server,
  stories,
}:
{
  nodes = {
    front.services.repd = {
      enable = true;
      openFirewall = true;
      allowAnyone = true;
      settings = {
        upstream = [
          "tcp://back1:5555"
          "tcp://back2:5555"
        ];
        # A machine that vanishes says nothing: it is missed after two seconds.
        heartbeat = 1;
        retries = 1;
      };
    };
    back1 = server;
    back2 = server;
    inherit client;
  };

  testScript = stories + ''
    start_all()
    upstream(front, [back1, back2], client, "tcp://front:5555")
  '';
}
