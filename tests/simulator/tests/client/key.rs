//! A key pair with its certificate, and assertions made with it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

pub(crate) struct Key {
    pair: RsaKeyPair,
    pub(crate) certificate: Vec<u8>,
}

impl Key {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap();
        Self {
            pair: RsaKeyPair::from_pkcs8(key.serialized_der()).unwrap(),
            certificate: certificate.der().to_vec(),
        }
    }

    pub(crate) fn head(&self, algorithm: &str) -> Value {
        let (name, print) = match algorithm {
            "PS256" => ("x5t#S256", digest(&SHA256, &self.certificate)),
            _ => ("x5t", digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate)),
        };
        json!({"alg": algorithm, "typ": "JWT", name: BASE64URL.encode(print)})
    }

    pub(crate) fn sign(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let text = format!("{}.{}", part(head), part(claims));
        let encoding: &'static dyn RsaEncoding = if head["alg"] == "PS256" {
            &RSA_PSS_SHA256
        } else {
            &RSA_PKCS1_SHA256
        };
        let mut seal = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut seal)
            .unwrap();
        format!("{text}.{}", BASE64URL.encode(seal))
    }
}
