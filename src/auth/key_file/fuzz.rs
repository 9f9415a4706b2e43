//! What must hold of files of keys, whatever is in them.

use super::*;

/// Reads a file of keys.
pub fn key_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let read = |text: &str, mode| pair_in(Path::new("a.key_secret"), text, mode);
    let Found { public, secret, bare } = Found::in_text(text);
    match read(text, 0o600) {
        Ok(pair) => {
            let (public, secret) = (pair.public, secret.or(bare).expect("a pair has a secret key"));
            assert!(read(text, 0o604).is_err(), "everybody may read it");
            for quote in ["\"", "'", ""] {
                let written =
                    format!("public-key={quote}{public}{quote}\nsecret-key={quote}{secret}{quote}");
                assert_eq!(read(&written, 0o600).ok().as_ref(), Some(&pair), "{written}");
            }
        }
        Err(error) => {
            let said = format!("{error:#}");
            assert_eq!(printable(said.as_bytes()), said);
            let keys = [public, secret, bare].into_iter().flatten();
            let mut keys = keys.filter(|key| key.parse::<PublicKey>().is_ok());
            assert!(!keys.any(|key| said.contains(key)), "it repeats a key: {said}");
        }
    }
}
