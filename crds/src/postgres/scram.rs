//! What a server keeps of a password, worked out here rather than there.
//!
//! A server that is told a password makes up a new salt each time, also when the password stays; and whoever holds keys
//! made from the old one, as a pooler does for its clients, gets in no more. Worked out here it is the same each time: it
//! is written only when the password changes, and no statement holds the password itself.

use sha2::{Digest, Sha256};

use crate::shared::digest;

/// As PostgreSQL does by itself (`scram_iterations`).
const ITERATIONS: u32 = 4096;
/// Length of a block of SHA-256.
const BLOCK: usize = 64;

/// What PostgreSQL keeps of a password of a role: `SCRAM-SHA-256$4096:salt$stored:server` (RFC 5803).
///
/// The salt comes from the role, the password and a secret that only the platform knows. Any client is told the salt
/// before it shows that it knows the password, so it must not be of use for guessing.
pub fn verifier(secret: &str, role: &str, password: &str) -> String {
    let salt = digest([secret.as_bytes(), b"salt", role.as_bytes(), password.as_bytes()]);
    keyed(password, &salt.as_bytes()[..16])
}

fn keyed(password: &str, salt: &[u8]) -> String {
    let salted = stretch(password.as_bytes(), salt);
    let stored = Sha256::digest(Keyed::new(&salted).sign(b"Client Key"));
    let server = Keyed::new(&salted).sign(b"Server Key");
    format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", base64(salt), base64(&stored), base64(&server))
}

/// PBKDF2 with one block, which is all that SCRAM needs.
fn stretch(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let key = Keyed::new(password);
    let mut last = key.sign(&[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = last;
    for _ in 1..ITERATIONS {
        last = key.sign(&last);
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// HMAC with SHA-256 (RFC 2104): both hashes, begun with the key.
struct Keyed {
    inner: Sha256,
    outer: Sha256,
}

impl Keyed {
    fn new(key: &[u8]) -> Self {
        let mut block = [0_u8; BLOCK];
        if key.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Self {
            inner: Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36)),
            outer: Sha256::new_with_prefix(block.map(|byte| byte ^ 0x5c)),
        }
    }

    fn sign(&self, message: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(message).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (word >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { char::from(LETTERS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_standards_example() {
        // RFC 7677: user, pencil; the proofs there follow from these two keys.
        let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        let kept = keyed("pencil", &salt);
        assert_eq!(
            kept,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn the_same_password_is_kept_the_same_way_and_two_roles_differ() {
        assert_eq!(verifier("s", "orthanc", "p"), verifier("s", "orthanc", "p"));
        assert_ne!(verifier("s", "orthanc", "p"), verifier("s", "billing", "p"));
        assert_ne!(verifier("s", "orthanc", "p"), verifier("t", "orthanc", "p"));
        assert!(!verifier("s", "orthanc", "pencil").contains("pencil"));
    }
}
