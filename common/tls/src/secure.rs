//! All of this, as the command line asks for it.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use common::{App, Args, Site};

use crate::certificates::Certificates;
use crate::plain::{Plain, strict};
use crate::self_signed::self_signed;
use crate::session::Tls;

/// Has a program speak TLS, if the command line asks for that: with the certificates that it names, which are read again
/// when they change and at SIGHUP; with a second port that sends clients here; and browsers are told to stay. Returns that
/// second port, if there is one.
///
/// # Errors
///
/// When a certificate or its key cannot be used, and when the second port cannot.
pub fn secure(app: &mut App, args: &Args) -> io::Result<Option<Redirecting>> {
    let Some(files) = files(args)? else { return Ok(None) };
    let certificates = Certificates::load(&files)?;
    certificates.watch()?;
    let reloaded = Arc::clone(&certificates);
    app.at_hangup(move || reloaded.reload());
    let tls = Tls::new(certificates);
    app.through(move || tls.session());
    let seconds = args.secure.hsts;
    if seconds > 0 {
        app.wrap(move |request, next| strict(request, next(request), seconds));
    }
    redirect(app, args)
}

/// Answers on the second port, if there is one, until the program is asked to stop.
fn redirect(app: &mut App, args: &Args) -> io::Result<Option<Redirecting>> {
    let Some(service) = args.plain_service()? else { return Ok(None) };
    let plain = Plain::new(args.https_host(), Site::new(args.site()));
    app.at_stop(service.stopper());
    let run = move || service.run(move |request| plain.answer(request));
    let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
    Ok(Some(Redirecting { thread }))
}

/// The second port.
#[derive(Debug)]
pub struct Redirecting {
    thread: JoinHandle<bool>,
}

impl Redirecting {
    /// Waits until its last answers have been sent. The program must have been asked to stop.
    pub fn wait(self) {
        let _ = self.thread.join(); // if it has panicked, it is over as well
    }
}

/// Returns the files with certificates and their keys; `None` if nobody wants TLS. A certificate for trying it out is made
/// if it is wanted. From stage 22.
///
/// # Errors
///
/// When it cannot be made.
pub fn files(args: &Args) -> io::Result<Option<Vec<(PathBuf, PathBuf)>>> {
    if args.secure.self_signed {
        let pair = self_signed(&home_of_self_signed())?;
        let path = pair.0.display();
        let _ = writeln!(
            io::stdout(),
            "certificate: {path} (curl --cacert {path} https://localhost:…)"
        );
        return Ok(Some(vec![pair]));
    }
    Ok(Some(args.secure.pairs.clone()).filter(|pairs| !pairs.is_empty()))
}

/// In the folder for what is built, if this is started where there is one, so that it is the same each time.
fn home_of_self_signed() -> PathBuf {
    let target = Path::new("target");
    if target.is_dir() {
        return target.join("self-signed");
    }
    env::temp_dir().join(format!("self-signed-{}", process::id()))
}
