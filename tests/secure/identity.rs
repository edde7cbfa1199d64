//! Certificates that are made for a check.

use std::fs;
use std::io;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use tempfile::TempDir;

/// A certificate for some names, its key, and the authority that has signed it, in files of their own.
#[derive(Debug)]
pub struct Identity {
    folder: TempDir,
}

impl Identity {
    /// Makes a certificate for these names, or addresses, in a new folder.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn for_names(names: &[&str]) -> io::Result<Identity> {
        let identity = Identity { folder: tempfile::tempdir()? };
        identity.renew(names)?;
        Ok(identity)
    }

    /// Makes another certificate, of another authority, in the place of this one.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn renew(&self, names: &[&str]) -> io::Result<()> {
        let [authority, certificate, key] = generate(names).map_err(io::Error::other)?;
        fs::write(self.authority(), authority)?;
        fs::write(self.key(), key)?;
        fs::write(self.certificate(), certificate)
    }

    /// The file with the certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The file with its key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The file with the certificate of the authority, for clients that should trust it.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The options that give it to a server.
    pub fn args(&self) -> [String; 4] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        ["--cert".into(), text(self.certificate()), "--key".into(), text(self.key())]
    }

    /// Whom a client trusts that trusts the authority.
    pub(crate) fn roots(&self) -> RootCertStore {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.authority()).expect("it was written");
        roots.add(authority).expect("it is an authority");
        roots
    }
}

/// Returns the certificates of an authority and of a server, and the key of the server.
fn generate(names: &[&str]) -> Result<[String; 3], rcgen::Error> {
    let (of_authority, of_server) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&of_authority)?;
    let issuer = Issuer::new(params, of_authority);
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&of_server, &issuer)?;
    Ok([authority.pem(), certificate.pem(), of_server.serialize_pem()])
}
