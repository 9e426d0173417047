//! Signing and checking with minisign, whose keys and signatures any other minisign reads as well.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox};
use serde::Serialize;

use crate::error::{Error, Result};

/// The comment of a signature that nobody vouches for.
const UNTRUSTED: &str = "hzctl bundle";

/// Bytes of a signature file that we write with this signed comment.
pub(crate) fn size_of(comment: &str) -> u64 {
    let (signature, global) = (100, 88); // base64 of 74 and 64 bytes
    ["untrusted comment: ", UNTRUSTED, "\n", "\n", "trusted comment: ", comment, "\n", "\n"]
        .iter()
        .map(|part| part.len() as u64)
        .sum::<u64>()
        + signature
        + global
}

/// Whether a signature file is byte for byte as we write it. Its first line is signed by nobody, so
/// only this finds a change in it.
pub(crate) fn is_as_written(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.starts_with(&format!("untrusted comment: {UNTRUSTED}\n"))
        && SignatureBox::from_string(text).is_ok_and(|signature| signature.to_string() == text)
}

/// The key that signs bundles.
pub struct SigningKey {
    secret: SecretKey,
    public: PublicKey,
}

/// The key that checks them.
#[derive(Debug, Clone)]
pub struct VerifyingKey(PublicKey);

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    /// Id of the key, as minisign prints it.
    pub key_id: String,
    /// The signed comment.
    pub comment: String,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("hz-bundle.json.minisig is missing: the bundle is not signed")]
    Missing,
    /// Not a signature.
    #[error("hz-bundle.json.minisig is not a minisign signature: {0}")]
    Malformed(String),
    /// Somebody else signed it.
    #[error("the bundle is signed by key {found}, and the key given is {expected}")]
    OtherKey {
        /// The key that signed.
        found: String,
        /// The key that was given.
        expected: String,
    },
    /// The right key, but other bytes.
    #[error("the signature does not fit: hz-bundle.json or its signature was changed after signing")]
    Wrong,
}

impl SigningKey {
    /// Where the key is by default: `HZCTL_BUNDLE_KEY`, or `~/.config/hzctl/bundle.key`.
    pub fn default_path() -> PathBuf {
        if let Some(path) = std::env::var_os("HZCTL_BUNDLE_KEY").filter(|p| !p.is_empty()) {
            return path.into();
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|p| !p.is_empty()).map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".config"),
            PathBuf::from,
        );
        config.join("hzctl/bundle.key")
    }

    /// Reads the key, or makes one at the first use. Tells whether it was made.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool)> {
        match fs::read_to_string(path) {
            Ok(text) => Ok((Self::parse(path, text)?, false)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((Self::create(path)?, true)),
            Err(source) => Err(Error::Io { act: format!("read the signing key {}", path.display()), source }),
        }
    }

    /// A key that is kept nowhere.
    pub fn ephemeral() -> Result<Self> {
        let pair = KeyPair::generate_unencrypted_keypair()
            .map_err(|e| Error::Key { act: "make a signing key".into(), reason: e.to_string() })?;
        Ok(Self { secret: pair.sk, public: pair.pk })
    }

    fn parse(path: &Path, text: String) -> Result<Self> {
        let fail = |e: minisign::PError| Error::Key {
            act: format!("read the signing key {}", path.display()),
            reason: format!("{e} (a minisign secret key without a password is needed: minisign -G -W)"),
        };
        let secret = match without_checksum(&text) {
            Some(secret) => secret,
            None => SecretKeyBox::from(text).into_unencrypted_secret_key().map_err(fail)?,
        };
        let public = PublicKey::from_secret_key(&secret).map_err(fail)?;
        Ok(Self { secret, public })
    }

    fn create(path: &Path) -> Result<Self> {
        let act = || format!("write the signing key {}", path.display());
        let key = Self::ephemeral()?;
        let text = key
            .secret
            .to_box(Some("hzctl bundle signing key"))
            .map_err(|e| Error::Key { act: act(), reason: e.to_string() })?
            .into_string();
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(act()))?;
        }
        // create_new: two first builds at once must not each sign with a key of its own.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match file {
            Ok(mut file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io(act()))?,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let text = fs::read_to_string(path).map_err(Error::io(act()))?;
                return Self::parse(path, text);
            }
            Err(source) => return Err(Error::Io { act: act(), source }),
        }
        Ok(key)
    }

    /// The half that others need.
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey(self.public.clone())
    }

    /// Signs bytes. The comment is signed too.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> Result<String> {
        minisign::sign(Some(&self.public), &self.secret, Cursor::new(bytes), Some(comment), Some(UNTRUSTED))
            .map(|signature| signature.to_string())
            .map_err(|e| Error::Key { act: "sign hz-bundle.json".into(), reason: e.to_string() })
    }
}

impl VerifyingKey {
    /// Reads a public key: a `.pub` file's text, or its one line of base64.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        PublicKey::from_base64(line).ok().map(Self)
    }

    /// Reads a public key file.
    pub fn load(path: &Path) -> Result<Self> {
        let act = format!("read the public key {}", path.display());
        let text = fs::read_to_string(path).map_err(|e| Error::Key { act: act.clone(), reason: e.to_string() })?;
        Self::parse(&text).ok_or_else(|| Error::Key { act, reason: "it is not a minisign public key".into() })
    }

    /// As minisign prints it.
    pub fn id(&self) -> String {
        key_id(self.0.keynum())
    }

    /// The text of a `.pub` file.
    pub fn to_text(&self) -> String {
        format!("untrusted comment: minisign public key {}\n{}\n", self.id(), self.0.to_base64())
    }

    /// Checks a signature over bytes.
    pub fn verify(&self, bytes: &[u8], signature: Option<&str>) -> Result<Signed, SignatureError> {
        let text = signature.ok_or(SignatureError::Missing)?;
        let signature = SignatureBox::from_string(text).map_err(|e| SignatureError::Malformed(e.to_string()))?;
        if signature.keynum() != self.0.keynum() {
            return Err(SignatureError::OtherKey { found: key_id(signature.keynum()), expected: self.id() });
        }
        minisign::verify(&self.0, &signature, Cursor::new(bytes), true, false, false)
            .map_err(|_| SignatureError::Wrong)?;
        let comment = signature.trusted_comment().map_err(|e| SignatureError::Malformed(e.to_string()))?;
        Ok(Signed { key_id: self.id(), comment })
    }
}

/// A key as `minisign -G -W` up to 0.11 writes it: not encrypted, and with zeros for its checksum.
fn without_checksum(text: &str) -> Option<SecretKey> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    let plain = bytes.len() == 158 && bytes[2..4] == [0, 0] && bytes[126..].iter().all(|byte| *byte == 0);
    if plain { SecretKey::from_bytes(&bytes).ok() } else { None }
}

fn key_id(number: &[u8]) -> String {
    number.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}
