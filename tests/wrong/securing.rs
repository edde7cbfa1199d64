//! Stage 23 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is. The mistakes are those of TLS: what is agreed on, what is carried, how it ends,
//! and what is said to those who come without it.

mod mistake;

use std::error::Error;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{App, Args, Filter, Refused, Request, Response, Site, Wire};
use mistake::is;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};

fn main() -> ExitCode {
    common::run_secure(|args| {
        let head_timeout = match is("waits-for-a-handshake-forever") {
            true => Duration::from_secs(3_600),
            false => args.limits.head_timeout,
        };
        let mut args = args.clone();
        args.limits.head_timeout = head_timeout;
        let mut app = args.app(&args.files());
        if is("keeps-what-is-cut-off") {
            keep_all(&mut app, &args);
        }
        if let Some((certificate, key)) = args.secure.pairs.first() {
            let config = Arc::new(config(certificate, key).map_err(io::Error::other)?);
            app.through(move || Box::new(Tls::new(&config)));
            app.wrap(|request, next| strict(request, next(request)));
            redirect(&mut app, &args)?;
        }
        match args.threads {
            true => args.run(app),
            false => event_loop::run(args.driven(app)?, event_loop::cores()).map(drop),
        }
    })
}

/// Stores what has come of a body, whether that is all of it or not.
fn keep_all(app: &mut App, args: &Args) {
    let directory = args.directory.clone().unwrap_or_default();
    app.wrap(move |request, next| {
        if request.method() != "POST" {
            return next(request);
        }
        let mut kept = Vec::new();
        let _ = request.body().map(|mut body| body.read_to_end(&mut kept));
        let name = request.full_path().raw().trim_start_matches("files/").to_owned();
        match fs::write(directory.join(name), kept) {
            Ok(()) => Response::created(),
            Err(error) => Response::failed(error),
        }
    });
}

fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(ring::default_provider());
    let versions = [&TLS13, &TLS12];
    let versions = if is("speaks-one-version") { &versions[..1] } else { &versions };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    let protocols: &[&[u8]] = match () {
        () if is("says-nothing-about-protocols") => &[],
        () if is("prefers-h2") => &[b"h2", b"http/1.1"],
        () if is("agrees-on-h2") => &[b"http/1.1", b"h2"],
        () => &[b"http/1.1"],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

struct Tls {
    session: ServerConnection,
    is_known: bool,
    is_plain: bool,
    is_agreeing: bool,
}

/// Whether somebody is in the middle of a handshake.
static IS_BUSY: AtomicBool = AtomicBool::new(false);

impl Tls {
    fn new(config: &Arc<ServerConfig>) -> Tls {
        let session = ServerConnection::new(Arc::clone(config)).expect("a sound configuration");
        Tls { session, is_known: false, is_plain: false, is_agreeing: false }
    }

    fn begin(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        let mut first = [0];
        if wire.read(&mut first)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.is_known = true;
        if first[0].is_ascii_uppercase() && !is("answers-all-with-tls") {
            if is("says-nothing-to-plain-http") {
                return Err(ErrorKind::InvalidData.into());
            }
            let why = match is("refuses-plain-http-with-a-number") {
                true => "bad request",
                false => "the address begins with https://",
            };
            self.is_plain = true;
            return Err(Refused { status: 400, why }.into());
        }
        self.session.read_tls(&mut &first[..]).map(drop)
    }

    fn pull(&mut self, wire: &mut dyn Wire) -> io::Result<usize> {
        let count = self.session.read_tls(wire)?;
        if let Err(error) = self.session.process_new_packets() {
            let _ = self.flush(wire);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    fn said(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.session.reader().read(room) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            said => said,
        }
    }
}

impl Filter for Tls {
    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        if is("agrees-with-one-at-a-time") && !self.is_agreeing {
            if IS_BUSY.swap(true, Ordering::AcqRel) {
                thread::sleep(Duration::from_millis(1));
                return Ok(false);
            }
            self.is_agreeing = true;
        }
        if !self.is_known {
            self.begin(wire)?;
        }
        self.flush(wire)?;
        if self.session.is_handshaking() {
            if self.pull(wire)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.flush(wire)?;
        }
        let is_open = !self.session.is_handshaking();
        if is_open && self.is_agreeing {
            IS_BUSY.store(false, Ordering::Release);
        }
        Ok(is_open)
    }

    fn receive(&mut self, wire: &mut dyn Wire, room: &mut [u8]) -> io::Result<usize> {
        let leaves = is("leaves-what-is-decrypted") && !self.is_plain;
        if !leaves {
            match self.said(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                said => return said,
            }
        }
        self.pull(wire)?;
        let most = if leaves { room.len().min(60) } else { room.len() };
        match self.said(&mut room[..most]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(ErrorKind::Interrupted.into())
            }
            said => said,
        }
    }

    fn send(&mut self, wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<usize> {
        if self.is_plain {
            return wire.write(bytes);
        }
        if is("encrypts-without-end") {
            self.session.set_buffer_limit(None);
            let _ = self.session.writer().write(bytes)?;
            let _ = self.session.write_tls(wire);
            return Ok(bytes.len()); // nothing sends the rest later
        }
        self.flush(wire)?;
        let count = self.session.writer().write(bytes)?;
        match self.flush(wire) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        if is("encrypts-without-end") && !self.session.is_handshaking() {
            return Ok(());
        }
        while self.session.wants_write() {
            self.session.write_tls(wire)?;
        }
        Ok(())
    }

    fn close(&mut self, wire: &mut dyn Wire) {
        if self.is_plain || is("leaves-without-a-goodbye") {
            return;
        }
        self.session.send_close_notify();
        let _ = self.flush(wire);
    }
}

fn redirect(app: &mut App, args: &Args) -> io::Result<()> {
    let Some(service) = args.plain_service()? else { return Ok(()) };
    let (host, site) = (args.https_host(), Site::new(args.site()));
    app.at_stop(service.stopper());
    let answer = move |request: &Request| {
        let is_challenge = request.full_path().raw().starts_with(".well-known/acme-challenge/");
        if is_challenge && !is("redirects-challenges") {
            return site.answer(request);
        }
        let host = match is("redirects-to-whoever-is-named") {
            true => request.host().unwrap_or_default(),
            false => &host,
        };
        let path = match is("redirects-without-the-query") {
            true => format!("/{}", request.full_path().raw()),
            false => request.relative_url(),
        };
        let path = if is("redirects-to-the-front-page") { "/".to_owned() } else { path };
        let status = if is("redirects-with-302") { 302 } else { 308 };
        let response = Response::new(status).header("Location", format!("https://{host}{path}"));
        match is("is-strict-without-tls") {
            true => Ok(response.header("Strict-Transport-Security", "max-age=300")),
            false => Ok(response),
        }
    };
    thread::Builder::new().spawn(move || service.run(answer)).map(drop)
}

fn strict(request: &Request, response: Response) -> Response {
    let host = request.host().unwrap_or("localhost");
    let is_name = match () {
        () if is("is-strict-with-addresses") => !host.eq_ignore_ascii_case("localhost"),
        () if is("is-strict-with-localhost") => host.parse::<IpAddr>().is_err(),
        () if is("is-never-strict") => false,
        () => !host.eq_ignore_ascii_case("localhost") && host.parse::<IpAddr>().is_err(),
    };
    match is_name {
        true if is("is-strict-for-no-time") => response.header("Strict-Transport-Security", "yes"),
        true => response.header("Strict-Transport-Security", "max-age=300"),
        false => response,
    }
}
