//! A certificate and its key.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use common::Authority;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// Who a server can show to be: a certificate, those that vouch for it, and the key that only the server has.
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    /// What those conversations have in common in which this is shown. Their tickets are good for no others: whoever comes
    /// back with one has been shown the same.
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads a certificate and its key from files (PEM, RFC 7468).
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or has no certificate or no key, and when they do not match.
    pub(crate) fn load(certificate: &Path, key: &Path) -> io::Result<Identity> {
        let wrong = |path: &Path, what: &str, why: &dyn fmt::Display| {
            let sentence = format!("{} {what} ({why})", path.display());
            io::Error::new(ErrorKind::InvalidData, sentence)
        };
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|why| wrong(certificate, "has no certificate", &why))?;
        if chain.is_empty() {
            return Err(wrong(certificate, "has no certificate", &"nothing in it is one"));
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|why| wrong(key, "has no key", &why))?;
        let private = any_supported_type(&private)
            .map_err(|why| wrong(key, "has a key that cannot be used", &why))?;
        let both = CertifiedKey::new(chain, private);
        both.keys_match().map_err(|why| {
            wrong(key, &format!("is not the key for {}", certificate.display()), &why)
        })?;
        let key = Arc::new(both);
        let identity = Identity { config: Arc::new(config(&key)?), key };
        identity.parsed().map_err(|why| wrong(certificate, "has no certificate", &why))?;
        Ok(identity)
    }

    /// Whether the certificate is for this host, a name or an address (RFC 9525).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host); // the same name, from the root on
        if host.ends_with('.') {
            return false;
        }
        let (Ok(parsed), Ok(name)) = (self.parsed(), ServerName::try_from(host)) else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }

    fn parsed(&self) -> Result<ParsedCertificate<'_>, rustls::Error> {
        let end_entity = self.key.end_entity_cert()?;
        ParsedCertificate::try_from(end_entity)
    }
}

/// TLS 1.2 and 1.3, for HTTP/1.1. Sessions are resumed with tickets. There is no early data: whoever records a request
/// could send it a second time (RFC 8470).
fn config(key: &Arc<CertifiedKey>) -> io::Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(key)));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(config)
}

/// Who one client has been shown that this server is. It asks for the same host again and again, so that is remembered.
#[derive(Debug)]
pub(crate) struct Shown {
    identity: Arc<Identity>,
    host: OnceLock<Box<str>>,
}

impl Shown {
    pub(crate) fn new(identity: Arc<Identity>) -> Shown {
        Shown { identity, host: OnceLock::new() }
    }
}

impl Authority for Shown {
    fn covers(&self, host: &str) -> bool {
        if self.host.get().is_some_and(|known| **known == *host) {
            return true;
        }
        let covers = self.identity.covers(host);
        if covers {
            let _ = self.host.set(host.into()); // or another one is remembered already
        }
        covers
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Identity") // a key is not for logs
    }
}
