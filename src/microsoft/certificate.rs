//! A certificate with its key, and the assertions signed with it.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p12_keystore::Pkcs12Archive;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use serde::Serialize;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::config::Flaw;

/// How long an assertion is good for.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An RSA key and the certificate that belongs to it.
#[derive(Debug)]
pub(super) struct Certificate {
    key: EncodingKey,
    header: Header,
    /// When the certificate ends.
    pub(super) not_after: DateTime<Utc>,
}

/// DER of certificates, and of a key as PKCS#1.
#[derive(Default)]
struct Found {
    certificates: Vec<Vec<u8>>,
    key: Option<Zeroizing<Vec<u8>>>,
}

impl Certificate {
    /// Reads a PEM or PFX file, and the key's PEM file if that is another one. `rs256` chooses the
    /// older signature and thumbprint.
    ///
    /// # Errors
    /// What is wrong and the cure, without the files' names.
    pub(super) fn read(
        certificate: &[u8],
        key: Option<&[u8]>,
        password: Option<&str>,
        rs256: bool,
    ) -> Result<Self, Flaw> {
        let mut found = Found::default();
        for file in [Some(certificate), key].into_iter().flatten() {
            if is_pem(file) {
                found.take_pem(file, password)?;
            } else {
                found.take_pfx(file, password.unwrap_or_default())?;
            }
        }
        let key = found.key.ok_or_else(|| {
            Flaw::new(
                "no private key in it",
                "give private_key_file, or a file with both",
            )
        })?;
        let public = KeyPair::from_der(&key).map_err(|_| damaged_key())?;
        let public = public.public_key().as_ref();
        if found.certificates.is_empty() {
            return Err(Flaw::new(
                "no certificate in it",
                "give the PEM or PFX file with the certificate",
            ));
        }
        // The file may hold the authorities too: the app's certificate is the one of the key.
        let (der, not_after) = found
            .certificates
            .iter()
            .find_map(|der| {
                let certificate = x509_cert::Certificate::from_der(der).ok()?;
                let tbs = certificate.tbs_certificate();
                let own =
                    tbs.subject_public_key_info().subject_public_key.as_bytes() == Some(public);
                let not_after = tbs.validity().not_after.to_unix_duration().as_secs();
                own.then_some((der, i64::try_from(not_after).ok()?))
            })
            .ok_or_else(|| {
                Flaw::new(
                    "the private key belongs to none of the certificates",
                    "give the key that the certificate was made with",
                )
            })?;
        let mut header = Header::new(if rs256 {
            Algorithm::RS256
        } else {
            Algorithm::PS256
        });
        if rs256 {
            header.x5t = Some(thumbprint(&SHA1_FOR_LEGACY_USE_ONLY, der));
        } else {
            header.x5t_s256 = Some(thumbprint(&SHA256, der));
        }
        Ok(Self {
            key: EncodingKey::from_rsa_der(&key),
            header,
            not_after: DateTime::from_timestamp(not_after, 0).unwrap_or(DateTime::<Utc>::MAX_UTC),
        })
    }

    /// A signed assertion that the app is `client_id`, for the token endpoint at `audience`; `None`
    /// if the crypto library fails.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Option<Zeroizing<String>> {
        #[derive(Serialize)]
        struct Claims<'a> {
            aud: &'a str,
            iss: &'a str,
            sub: &'a str,
            jti: String,
            nbf: i64,
            iat: i64,
            exp: i64,
        }
        let claims = Claims {
            aud: audience,
            iss: client_id,
            sub: client_id,
            jti: random_guid()?,
            nbf: now.timestamp(),
            iat: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map(Zeroizing::new)
            .ok()
    }
}

impl Found {
    fn take_pem(&mut self, file: &[u8], password: Option<&str>) -> Result<(), Flaw> {
        for block in pem::parse_many(file)
            .map_err(|error| Flaw::new(format!("it is damaged PEM ({error})"), "export it again"))?
        {
            let encrypted = block.headers().get("Proc-Type").is_some();
            let tag = block.tag().to_owned();
            let der = Zeroizing::new(block.into_contents());
            let key = match tag.as_str() {
                "CERTIFICATE" => {
                    self.certificates.push(der.to_vec());
                    continue;
                }
                "RSA PRIVATE KEY" if encrypted => {
                    return Err(outdated());
                }
                "RSA PRIVATE KEY" => der,
                "PRIVATE KEY" => pkcs1(&der)?,
                "ENCRYPTED PRIVATE KEY" => {
                    let password = password.ok_or_else(|| {
                        Flaw::new(
                            "the private key is encrypted",
                            "give certificate_password_file",
                        )
                    })?;
                    let key = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
                        .map_err(|_| outdated())?
                        .decrypt(password)
                        .map_err(|_| {
                            Flaw::new(
                                "the private key cannot be decrypted",
                                "check certificate_password_file",
                            )
                        })?;
                    pkcs1(key.as_bytes())?
                }
                "EC PRIVATE KEY" => return Err(not_rsa()),
                _ => continue,
            };
            self.set_key(key)?;
        }
        Ok(())
    }

    fn take_pfx(&mut self, file: &[u8], password: &str) -> Result<(), Flaw> {
        let archive = Pkcs12Archive::from_pkcs12(file, password).map_err(|error| {
            Flaw::new(
                format!("it is neither PEM nor a PFX file that this password opens ({error})"),
                "check certificate_password_file, and that the file is whole",
            )
        })?;
        self.certificates
            .extend(archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()));
        for bag in &archive.keys {
            self.set_key(pkcs1(bag.key.as_der())?)?;
        }
        Ok(())
    }

    fn set_key(&mut self, key: Zeroizing<Vec<u8>>) -> Result<(), Flaw> {
        match self.key.replace(key) {
            Some(_) => Err(Flaw::new(
                "more than one private key in it",
                "leave the one of the app's certificate",
            )),
            None => Ok(()),
        }
    }
}

fn damaged_key() -> Flaw {
    Flaw::new(
        "the private key is damaged, or shorter than 2048 bits",
        "export it again, or make a new certificate",
    )
}

fn outdated() -> Flaw {
    Flaw::new(
        "the key has an outdated encryption",
        "convert it: openssl pkcs8 -topk8 -v2 aes256 -in OLD -out NEW",
    )
}

fn not_rsa() -> Flaw {
    Flaw::new(
        "the key is no RSA key",
        "Entra ID takes RSA: make a certificate with an RSA key of 2048 bits or more",
    )
}

/// The PKCS#1 part of a PKCS#8 RSA key.
fn pkcs1(der: &[u8]) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| damaged_key())?;
    if info.algorithm.oid != RSA {
        return Err(not_rsa());
    }
    Ok(Zeroizing::new(info.private_key.as_bytes().to_vec()))
}

fn is_pem(file: &[u8]) -> bool {
    let mark = b"-----BEGIN ";
    file.windows(mark.len()).any(|bytes| bytes == mark)
}

fn thumbprint(algorithm: &'static digest::Algorithm, der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(algorithm, der))
}

/// A random (version 4) GUID.
fn random_guid() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    let n =
        u128::from_be_bytes(bytes) & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let hex = format!("{n:032x}");
    let parts: Vec<&str> = [0..8, 8..12, 12..16, 16..20, 20..32]
        .into_iter()
        .filter_map(|range| hex.get(range))
        .collect();
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::Value;

    const PASSWORD: &str = "fixture-pa%%word";
    const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

    fn file(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/certificates/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    fn read(
        certificate: &str,
        key: Option<&str>,
        password: Option<&str>,
        rs256: bool,
    ) -> Result<Certificate, Flaw> {
        Certificate::read(
            &file(certificate),
            key.map(file).as_deref(),
            password,
            rs256,
        )
    }

    /// The assertion's header and claims, if the certificate's public key verifies it.
    fn verified(certificate: &Certificate, algorithm: Algorithm) -> (Value, Value) {
        let pem = file("certificate.pem");
        let der = pem::parse(&pem).unwrap().into_contents();
        let public = x509_cert::Certificate::from_der(&der).unwrap();
        let public = public
            .tbs_certificate()
            .subject_public_key_info()
            .subject_public_key
            .raw_bytes()
            .to_vec();
        let now = Utc::now();
        let text = certificate
            .assertion(CLIENT, "https://login/token", now)
            .unwrap();
        let mut rules = Validation::new(algorithm);
        rules.set_audience(&["https://login/token"]);
        rules.set_issuer(&[CLIENT]);
        rules.validate_nbf = true;
        let data = jsonwebtoken::decode::<Value>(
            text.as_bytes(),
            &DecodingKey::from_rsa_der(&public),
            &rules,
        )
        .unwrap();
        assert_eq!(data.claims["sub"], CLIENT);
        assert_eq!(data.claims["exp"].as_i64().unwrap() - now.timestamp(), 600);
        (serde_json::to_value(data.header).unwrap(), data.claims)
    }

    /// The thumbprint that openssl computed.
    fn expected(digest: &str) -> String {
        let text = String::from_utf8(file(&format!("thumbprint-{digest}.txt"))).unwrap();
        text.trim().to_owned()
    }

    #[test]
    fn every_form_of_certificate_and_key_signs() {
        for (certificate, key, password) in [
            ("certificate.pem", Some("key.pem"), None),
            ("certificate.pem", Some("key-pkcs1.pem"), None),
            ("certificate.pem", Some("key-aes.pem"), Some(PASSWORD)),
            ("certificate.pem", Some("key-3des.pem"), Some(PASSWORD)),
            ("certificate.pem", Some("key-scrypt.pem"), Some(PASSWORD)),
            ("all-in-one.pem", None, None),
            ("modern.pfx", None, Some(PASSWORD)),
            ("legacy.pfx", None, Some(PASSWORD)),
            ("empty-password.pfx", None, None),
            ("empty-password.pfx", None, Some("")),
        ] {
            let certificate = read(certificate, key, password, false)
                .unwrap_or_else(|why| panic!("{certificate} {key:?}: {why}"));
            let (header, _) = verified(&certificate, Algorithm::PS256);
            assert_eq!(header["alg"], "PS256");
            assert_eq!(header["typ"], "JWT");
            assert_eq!(header["x5t#S256"], expected("sha256"));
            assert!(header.get("x5t").is_none());
            assert!(certificate.not_after > Utc::now() + TimeDelta::days(365 * 50));
            assert!(
                !format!("{certificate:?}").contains("48, 130"),
                "a key in Debug"
            );
        }
    }

    #[test]
    fn rs256_names_the_certificate_by_sha1() {
        let certificate = read("modern.pfx", None, Some(PASSWORD), true).unwrap();
        let (header, claims) = verified(&certificate, Algorithm::RS256);
        assert_eq!(header["x5t"], expected("sha1"));
        assert!(header.get("x5t#S256").is_none());
        let (_, again) = verified(&certificate, Algorithm::RS256);
        let jti = claims["jti"].as_str().unwrap();
        assert_ne!(jti, again["jti"]);
        assert_eq!((jti.len(), &jti[14..15]), (36, "4"));
        assert!("89ab".contains(&jti[19..20]), "{jti}");
    }

    #[test]
    fn what_cannot_sign_says_why() {
        for (certificate, key, password, says) in [
            ("certificate.pem", None, None, "no private key"),
            ("key.pem", None, None, "no certificate"),
            (
                "certificate.pem",
                Some("key-other.pem"),
                None,
                "belongs to none",
            ),
            ("certificate.pem", Some("key-ec.pem"), None, "no RSA key"),
            (
                "certificate.pem",
                Some("key-traditional.pem"),
                Some(PASSWORD),
                "openssl pkcs8",
            ),
            ("certificate.pem", Some("key-aes.pem"), None, "is encrypted"),
            (
                "certificate.pem",
                Some("key-aes.pem"),
                Some("wrong"),
                "cannot be decrypted",
            ),
            ("all-in-one.pem", Some("key.pem"), None, "more than one"),
            (
                "modern.pfx",
                None,
                Some("wrong"),
                "certificate_password_file",
            ),
            ("modern.pfx", None, None, "certificate_password_file"),
            ("make.sh", None, None, "neither PEM nor a PFX"),
        ] {
            let why = read(certificate, key, password, false)
                .unwrap_err()
                .to_string();
            assert!(why.contains(says), "{certificate} {key:?}: {why}");
            assert!(!why.contains(PASSWORD));
        }
    }
}
