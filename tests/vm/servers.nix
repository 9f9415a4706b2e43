# Two services of one machine.
{
  client,
  server,
  stories,
}:
{
  nodes = {
    server = {
      imports = [ server ];
      services.repd.servers.blue.settings = {
        listen = [
          "tcp://127.0.0.1:6003"
          "ipc:///run/repd-blue/clients"
        ];
        handler = "echo";
      };
    };
    inherit client;
  };

  testScript = stories + ''
    start_all()
    places = ["tcp://127.0.0.1:6003", "ipc:///run/repd-blue/clients"]
    servers(server, client, "tcp://server:5555", "hello", *places)
  '';
}
