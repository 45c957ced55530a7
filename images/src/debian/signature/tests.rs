use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder};
use pgp::ser::Serialize;
use pgp::types::Password;

use super::*;

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A key made here: the primary certifies, a subkey signs, as the archive's keys do.
pub(crate) fn make_key() -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_encrypt(EncryptionCaps::None)
        .can_authenticate(false)
        .build()
        .expect("valid parameters");
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(false)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Archive of a test <archive@example.org>".into())
        .subkeys(vec![subkey])
        .build()
        .expect("valid parameters")
        .generate(rand::thread_rng())
        .expect("a key")
}

pub(crate) fn sign(key: &SignedSecretKey, text: &str) -> Vec<u8> {
    let subkey = &key.secret_subkeys[0].key;
    let message = CleartextSignedMessage::sign(rand::thread_rng(), text, subkey, &Password::empty()).expect("signed");
    message.to_armored_bytes(Default::default()).expect("memory")
}

pub(crate) fn public(key: &SignedSecretKey) -> Vec<u8> {
    SignedPublicKey::from(key.clone()).to_bytes().expect("memory")
}

fn keyring(key: &SignedSecretKey) -> Keyring {
    Keyring::parse("test", &public(key)).expect("a keyring")
}

const TEXT: &str = "Suite: x\n- dashed\nend\n";

#[test]
fn what_is_signed_is_believed_and_nothing_else() {
    let (key, other) = (make_key(), make_key());
    let message = sign(&key, TEXT);
    let keyring = keyring(&key);
    assert_eq!(keyring.verified_text("it", &message, now()).expect("good").trim_end(), "Suite: x\n- dashed\nend");
    let text = String::from_utf8(message.clone()).expect("text");
    for changed in [
        text.replace("Suite: x", "Suite: y"),
        text.replace("Suite: x\n", "Suite: x\nMore: 1\n"),
        format!("More: 1\n{text}"),
        format!("{text}More: 1\n"),
        text.replace("-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----"),
        text.replace("Hash: SHA256", "Hash: SHA256\nMore: 1"),
        TEXT.to_owned(),
        String::new(),
    ] {
        assert!(keyring.verified_text("it", changed.as_bytes(), now()).is_err(), "{changed}");
    }
    let refused = self::keyring(&other).verified_text("it", &message, now());
    assert!(matches!(refused, Err(SignatureError::Untrusted { .. })), "{refused:?}");
}

#[test]
fn a_primary_key_that_may_not_sign_is_refused() {
    let key = make_key();
    let message = CleartextSignedMessage::sign(rand::thread_rng(), TEXT, &key.primary_key, &Password::empty());
    let message = message.expect("signed").to_armored_bytes(Default::default()).expect("memory");
    let refused = keyring(&key).verified_text("it", &message, now());
    assert!(matches!(refused, Err(SignatureError::Untrusted { .. })), "{refused:?}");
}

#[test]
fn a_subkey_that_another_key_bound_is_refused() {
    let (good, evil) = (make_key(), make_key());
    let message = sign(&evil, TEXT);
    // The evil subkey with its own bindings, grafted onto the trusted certificate.
    let mut grafted = SignedPublicKey::from(good);
    grafted.public_subkeys.extend(SignedPublicKey::from(evil).public_subkeys);
    let keyring = Keyring::parse("test", &grafted.to_bytes().expect("memory")).expect("a keyring");
    let refused = keyring.verified_text("it", &message, now());
    assert!(matches!(refused, Err(SignatureError::Untrusted { .. })), "{refused:?}");
}

#[test]
fn a_signature_from_the_future_is_refused() {
    let key = make_key();
    let message = sign(&key, TEXT);
    let days_ago = now() - Duration::from_secs(3 * 24 * 3600).as_secs();
    assert!(keyring(&key).verified_text("it", &message, days_ago).is_err());
}

#[test]
fn the_built_in_keyring_has_living_keys() {
    let keyring = Keyring::built_in().expect("keys");
    // 2026: the keys of bookworm and trixie are good, whatever the clock of the host says.
    let living = keyring.certificates.iter().filter(|certificate| is_alive(certificate, 1_783_764_997)).count();
    assert!(living >= 6, "{living} of {}", keyring.certificates.len());
    assert!(matches!(Keyring::parse("none", b"nothing"), Err(SignatureError::EmptyKeyring(_))));
}

/// A real `InRelease`: `VMM_TEST_INRELEASE` names it.
#[test]
#[ignore = "needs VMM_TEST_INRELEASE, the path of an InRelease file"]
fn a_real_inrelease() {
    let path = std::env::var("VMM_TEST_INRELEASE").expect("VMM_TEST_INRELEASE");
    let message = std::fs::read(path).expect("the file");
    let text = Keyring::built_in().expect("keys").verified_text("it", &message, now()).expect("a good signature");
    assert!(text.starts_with("Origin: Debian"));
}
