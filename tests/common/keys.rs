//! A service with keys, and the clients that have some.

use std::fs;
use std::process::Output;

use super::{Client, Folder, Process, repd};

/// A folder of keys and lists.
pub struct Keys(pub Folder);

impl Keys {
    /// Makes a folder with the key of a service, that of a client, and a list of that client.
    pub fn new(name: &str) -> Keys {
        let keys = Keys(Folder::new(&format!("keys-{name}")));
        keys.make("service");
        let line = keys.make("pump-7");
        keys.write("clients", &line);
        keys
    }

    pub fn path(&self, name: &str) -> String {
        self.0.0.join(name).to_str().unwrap().into()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes a pair of keys, and returns its line for a list.
    pub fn make(&self, name: &str) -> String {
        let made = repd(&["keygen", &self.path(name)], b"");
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap()
    }

    pub fn public(&self, name: &str) -> String {
        let printed = repd(&["keygen", "--public", &self.path(&format!("{name}.key_secret"))], b"");
        String::from_utf8(printed.stdout).unwrap().trim_end().into()
    }

    pub fn secret(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.key_secret"))).unwrap();
        text.split("secret-key = \"").nth(1).unwrap().split('"').next().unwrap().into()
    }

    /// Starts a service whose clients these are.
    pub fn serve(&self, options: &[&str]) -> Process {
        let (key, clients) = (self.path("service.key_secret"), self.path("clients"));
        Process::start(&[&["--key", &key, "--clients", &clients], options].concat())
    }

    /// Asks for `hello`, reversed, with the key of that name.
    pub fn call(&self, endpoint: &str, name: &str) -> Output {
        let (server, key) = (self.public("service"), self.path(&format!("{name}.key_secret")));
        repd(&["call", endpoint, "--server-key", &server, "--key", &key, "hello"], b"")
    }

    /// Returns what gives a socket the key of that name.
    pub fn curve_of(&self, name: &str) -> impl Fn(&zmq::Socket) {
        let decode = |key: &str| zmq::z85_decode(key).unwrap();
        let (public, secret) = (decode(&self.public(name)), decode(&self.secret(name)));
        let server = decode(&self.public("service"));
        move |socket| {
            socket.set_curve_publickey(&public).unwrap();
            socket.set_curve_secretkey(&secret).unwrap();
            socket.set_curve_serverkey(&server).unwrap();
        }
    }

    /// Connects a client with the key of that name.
    pub fn client(&self, kind: zmq::SocketType, endpoint: &str, name: &str) -> Client {
        Client::with(kind, endpoint, self.curve_of(name))
    }
    /// Connects a client with the key of that name. Returns what tells when its connection has
    /// ended, too.
    pub fn watched(&self, kind: zmq::SocketType, endpoint: &str, name: &str) -> (Client, Watch) {
        let client = self.client(kind, endpoint, name);
        let watch = Watch::new(&client);
        (client, watch)
    }
}

/// Tells when the connection of a client has ended.
pub struct Watch(zmq::Socket);

impl Watch {
    pub fn new(client: &Client) -> Watch {
        let events = zmq::SocketEvent::DISCONNECTED.to_raw();
        client.socket.monitor("inproc://monitor", events.into()).unwrap();
        let monitor = client.context().socket(zmq::PAIR).unwrap();
        monitor.set_linger(0).unwrap();
        monitor.set_rcvtimeo(super::LIMIT.as_millis() as i32).unwrap();
        monitor.connect("inproc://monitor").unwrap();
        Watch(monitor)
    }

    /// Waits until it has ended.
    pub fn wait(&self) {
        self.0.recv_multipart(0).expect("it is still connected");
    }

    /// Returns true if it has ended by now.
    pub fn has_ended(&self) -> bool {
        self.0.poll(zmq::POLLIN, 0).unwrap() > 0
    }
}
