//! The archive's signature: `InRelease` is a cleartext-signed OpenPGP message (RFC 9580, section 7). One good signature by
//! a usable key of the keyring is enough, as the archive signs with the keys of two releases.

use std::io::BufReader;

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

/// Greatest size of a signed message and of a keyring.
const MAX_SIZE: usize = 16 << 20;
/// Seconds that the clock of whoever signs may be ahead of ours.
const CLOCK_TOLERANCE: u64 = 24 * 3600;

/// Why nothing is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The keyring has no key that can be read.
    #[error("The keyring {0} has no OpenPGP public key in it: give one with --keyring")]
    EmptyKeyring(String),
    /// No signed message.
    #[error("{what} is no signed message ({reason}): is --mirror a Debian archive?")]
    NotSigned {
        /// What was read.
        what: String,
        /// What the reader says.
        reason: String,
    },
    /// No signature of a key that we trust.
    #[error(
        "{what} has no good signature by a key of the keyring {keyring} (signed by: {signers}): the file was changed on its way, or the suite is signed with other keys (--keyring)"
    )]
    Untrusted {
        /// What was read.
        what: String,
        /// Which keys were tried.
        keyring: String,
        /// Who signed, as far as it is told.
        signers: String,
    },
}

/// Public keys that are trusted.
#[derive(Clone, Debug)]
pub struct Keyring {
    name: String,
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads a keyring, binary or in ASCII armor. `name` is how errors call it.
    ///
    /// # Errors
    /// [`SignatureError::EmptyKeyring`] when there is no key in it that can be read.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Keyring, SignatureError> {
        let empty = || SignatureError::EmptyKeyring(name.to_owned());
        let bytes = bytes.get(..bytes.len().min(MAX_SIZE)).unwrap_or_default();
        let certificates: Vec<SignedPublicKey> = if bytes.starts_with(b"-----BEGIN") {
            SignedPublicKey::from_armor_many(bytes).map_err(|_| empty())?.0.filter_map(Result::ok).collect()
        } else {
            SignedPublicKey::from_bytes_many(BufReader::new(bytes))
                .map_err(|_| empty())?
                .filter_map(Result::ok)
                .collect()
        };
        if certificates.is_empty() { Err(empty()) } else { Ok(Keyring { name: name.to_owned(), certificates }) }
    }

    /// The keys that sign the Debian archive, as of the release of this program.
    ///
    /// # Errors
    /// Never in practice: the keys are part of the program.
    pub fn built_in() -> Result<Keyring, SignatureError> {
        Keyring::parse("built into vmm", include_bytes!("../../data/debian-archive-keyring.gpg"))
    }

    /// The text of a cleartext-signed message, if a usable key signed it. `what` names it in errors; `now` is the time in
    /// seconds since 1970. Only this text may be used: other lines of the message are not covered by the signature.
    ///
    /// # Errors
    /// [`SignatureError::NotSigned`] and [`SignatureError::Untrusted`].
    pub fn verified_text(&self, what: &str, message: &[u8], now: u64) -> Result<String, SignatureError> {
        let not_signed = |reason: String| SignatureError::NotSigned { what: what.to_owned(), reason };
        if message.len() > MAX_SIZE {
            return Err(not_signed(format!("{} bytes are too many", message.len())));
        }
        let text = std::str::from_utf8(message).map_err(|error| not_signed(error.to_string()))?;
        let (message, _) = CleartextSignedMessage::from_string(text).map_err(|error| not_signed(error.to_string()))?;
        let signed = message.signed_text();
        let good = |signature: &Signature| is_acceptable(signature, now) && self.verifies(signature, &signed, now);
        if message.signatures().iter().any(good) {
            return Ok(signed.replace("\r\n", "\n"));
        }
        let signers = message.signatures().iter().flat_map(Signature::issuer_key_id).map(|id| format!("{id:?}"));
        let signers: Vec<String> = signers.collect();
        let signers = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
        Err(SignatureError::Untrusted { what: what.to_owned(), keyring: self.name.clone(), signers })
    }

    /// Whether a key that may sign at `now` made this signature of `text`.
    fn verifies(&self, signature: &Signature, text: &str, now: u64) -> bool {
        self.certificates.iter().filter(|certificate| is_alive(certificate, now)).any(|certificate| {
            let by_primary =
                || primary_signs(certificate) && signature.verify(&certificate.primary_key, text.as_bytes()).is_ok();
            let by_subkey = |subkey: &SignedPublicSubKey| {
                signature.verify(&subkey.key, text.as_bytes()).is_ok() && subkey_signs(certificate, subkey, now)
            };
            by_primary() || certificate.public_subkeys.iter().any(by_subkey)
        })
    }
}

/// Whether a signature of a document is of a kind, strength and time that counts.
fn is_acceptable(signature: &Signature, now: u64) -> bool {
    let strong = matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    let document = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
    let Some(created) = signature.created().map(|time| u64::from(time.as_secs())) else {
        return false;
    };
    let lasts = signature.signature_expiration_time().map_or(0, |duration| u64::from(duration.as_secs()));
    strong && document && created <= now.saturating_add(CLOCK_TOLERANCE) && (lasts == 0 || now < created + lasts)
}

/// Whether a key that was made at `created` has not expired by the binding signature `binding`.
fn has_not_expired(created: u64, binding: &Signature, now: u64) -> bool {
    let lasts = binding.key_expiration_time().map_or(0, |duration| u64::from(duration.as_secs()));
    lasts == 0 || now < created.saturating_add(lasts)
}

/// The newest signature that `good` accepts.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    good: impl Fn(&Signature) -> bool,
) -> Option<&'a Signature> {
    signatures
        .filter(|signature| good(signature))
        .max_by_key(|signature| signature.created().map_or(0, |time| time.as_secs()))
}

/// The newest good signature by which the primary key describes itself.
fn self_signature(certificate: &SignedPublicKey) -> Option<&Signature> {
    let key = &certificate.primary_key;
    let users = certificate.details.users.iter();
    let by_user = users.filter_map(|user| {
        newest(user.signatures.iter(), |signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(key, Tag::UserId, &user.id).is_ok()
        })
    });
    let direct = certificate.details.direct_signatures.iter();
    let direct = direct.filter(|signature| signature.verify_key(key).is_ok());
    newest(by_user.chain(direct), |_| true)
}

/// Whether a certificate describes itself, is not revoked and has not expired.
fn is_alive(certificate: &SignedPublicKey, now: u64) -> bool {
    let key = &certificate.primary_key;
    let revoked = certificate.details.revocation_signatures.iter().any(|signature| signature.verify_key(key).is_ok());
    let created = u64::from(key.created_at().as_secs());
    !revoked && self_signature(certificate).is_some_and(|signature| has_not_expired(created, signature, now))
}

/// Whether the primary key may sign documents.
fn primary_signs(certificate: &SignedPublicKey) -> bool {
    self_signature(certificate).is_some_and(|signature| signature.key_flags().sign())
}

/// Whether a subkey belongs to the certificate, may sign documents, is not revoked and has not expired.
fn subkey_signs(certificate: &SignedPublicKey, subkey: &SignedPublicSubKey, now: u64) -> bool {
    let (primary, key) = (&certificate.primary_key, &subkey.key);
    let bound = |signature: &Signature| signature.verify_subkey_binding(primary, key).is_ok();
    let of_type = |wanted| subkey.signatures.iter().filter(move |signature| signature.typ() == Some(wanted));
    // A revocation is made over the same bytes as a binding.
    if of_type(SignatureType::SubkeyRevocation).any(bound) {
        return false;
    }
    let Some(binding) = newest(of_type(SignatureType::SubkeyBinding), bound) else {
        return false;
    };
    let signed_back =
        binding.embedded_signature().is_some_and(|back| back.verify_primary_key_binding(key, primary).is_ok());
    let created = u64::from(key.created_at().as_secs());
    binding.key_flags().sign() && signed_back && has_not_expired(created, binding, now)
}

#[cfg(test)]
pub(crate) mod tests;
