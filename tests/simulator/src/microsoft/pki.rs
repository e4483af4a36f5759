//! A certificate authority of the simulator's own, and what a listener shows.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the TLS listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerCertificate {
    /// For localhost, 127.0.0.1, `::1` and Microsoft's own names of the commercial cloud, signed by the authority
    /// of [`super::Microsoft::ca_pem`].
    #[default]
    Good,
    /// Signed by it, but over since 2001.
    Expired,
    /// Signed by it, for another name.
    WrongHost,
    /// Signed by its own key.
    SelfSigned,
    /// Signed by an authority that nobody knows.
    UnknownAuthority,
}

/// The authority.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        Ok(Self {
            pem: issuer.pem(),
            issuer,
        })
    }

    /// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1 by ALPN.
    pub(super) fn listener(&self, kind: ListenerCertificate) -> io::Result<Arc<ServerConfig>> {
        let names = match kind {
            ListenerCertificate::WrongHost => vec!["elsewhere.example".to_owned()],
            _ => vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "::1".to_owned(),
                "login.microsoftonline.com".to_owned(),
                "manage.office.com".to_owned(),
            ],
        };
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params
            .distinguished_name
            .push(DnType::CommonName, "Simulator");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = match kind {
            ListenerCertificate::Expired => date_time_ymd(2001, 1, 1),
            _ => date_time_ymd(2090, 1, 1),
        };
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let shown = match kind {
            ListenerCertificate::SelfSigned => params.self_signed(&key),
            ListenerCertificate::UnknownAuthority => {
                params.signed_by(&key, &*Self::new("Nobody's authority")?.issuer)
            }
            _ => params.signed_by(&key, &*self.issuer),
        };
        let shown = shown.map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![shown.der().clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
