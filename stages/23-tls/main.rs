//! Stage 23: TLS. Chapter: docs/23-tls.md

mod plain;
mod pump;

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use common::{App, Args, Events};
use json::{Memory, Rules, Store};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use store::Disk;

use crate::pump::Tls;

fn main() -> ExitCode {
    common::run_secure(|args| {
        let files = args.files().synced();
        let events = Events::new(args.max_watchers, args.heartbeat);
        let store = open(args, &events)?;
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        json::add_events(&mut app, &events);
        let redirecting = secure(&mut app, args)?;
        match args.threads {
            true => args.run(app)?,
            false => drop(event_loop::run(args.driven(app)?, event_loop::cores())?),
        }
        redirecting.map(JoinHandle::join); // its last answers, too
        files.abandon_uploads();
        Ok(())
    })
}

/// Speaks TLS, if the user has a certificate.
fn secure(app: &mut App, args: &Args) -> io::Result<Option<JoinHandle<bool>>> {
    let Some(pairs) = tls::files(args)? else { return Ok(None) };
    let [(certificate, key)] = &pairs[..] else {
        return Err(io::Error::other(
            "this stage has one certificate; tls, in common, has several",
        ));
    };
    let config = config(certificate, key).map_err(|why| {
        let (certificate, key) = (certificate.display(), key.display());
        io::Error::other(format!("--cert {certificate} --key {key}: {why}"))
    })?;
    let config = Arc::new(config);
    app.through(move || Box::new(Tls::new(&config)));
    if args.secure.hsts > 0 {
        let seconds = args.secure.hsts;
        app.wrap(move |request, next| plain::strict(request, next(request), seconds));
    }
    plain::redirect(app, args)
}

/// What all conversations have in common: the certificate, its key, and what is spoken inside.
fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(ring::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// A store that tells what changes in it.
fn open(args: &Args, events: &Events) -> io::Result<Arc<dyn Store>> {
    let events = Arc::new(events.clone());
    Ok(match &args.store {
        Some(path) => Arc::new(Disk::open(path)?.observed_by(events)),
        None => Arc::new(Memory::default().observed_by(events)),
    })
}
