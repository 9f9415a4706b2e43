//! Keys for the loads that are run with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use repd::ClientKeys;

use crate::Failure;
use crate::peers::REPD;

/// The files of a service's key and of the list of its clients, and the keys of one of them.
#[derive(Clone)]
pub struct Keys {
    pub service: PathBuf,
    pub clients: PathBuf,
    pub client: ClientKeys,
}

impl Keys {
    /// Makes them, or reads those of the last time.
    pub fn make() -> Result<Keys, Failure> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (service, client) = (folder.join("bench-service"), folder.join("bench-client"));
        let service_line = keygen(&service)?;
        let clients = folder.join("bench-clients");
        std::fs::write(&clients, keygen(&client)?)?;
        let key = service_line.split_whitespace().nth(1).ok_or("repd keygen printed no key")?;
        let secret = |name: &Path| name.with_extension("key_secret");
        let client = ClientKeys::read(secret(&client), key.parse()?)?;
        Ok(Keys { service: secret(&service), clients, client })
    }

    /// Returns the secret key of the service, in Z85.
    pub fn secret(&self) -> Result<String, Failure> {
        let text = std::fs::read_to_string(&self.service)?;
        let key = text.split("secret-key = \"").nth(1).and_then(|rest| rest.split('"').next());
        Ok(key.ok_or("no secret key")?.into())
    }
}

/// Makes a pair of keys, and returns its line for a list.
fn keygen(name: &Path) -> Result<String, Failure> {
    let run = Command::new(REPD).args(["keygen", "--if-missing"]).arg(name).output()?;
    Ok(String::from_utf8(run.stdout)?)
}
