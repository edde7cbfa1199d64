//! Lets the checks of all stages reach a server through TLS: `SERVER="target/debug/over-tls target/debug/stage23"`.
//!
//! It starts the server that its arguments name, with a certificate, on a port of its own; listens on `PORT`; and carries
//! each connection through TLS. It ends when the server ends, and asks it to end when it is asked to.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::free_port;
use secure::{Client, Identity, Tunnel};
use socket2::{Domain, Socket, Type};

/// How long the server may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: over-tls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<ExitCode> {
    let mut args = env::args_os().skip(1);
    let program = args.next().ok_or_else(|| io::Error::other("no server is named"))?;
    let port = env::var("PORT").unwrap_or_else(|_| "4221".to_owned());
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is no port"))?;
    let identity = Identity::for_names(&["localhost", "127.0.0.1", "::1", "a"])?;
    let behind = free_port();
    let mut command = Command::new(program);
    command.args(args).args(identity.args()).env("PORT", behind.to_string());
    let is_stopping = heed_signals(port)?;
    let mut server = command.spawn()?;
    if let Some(status) = wait_for(behind, &mut server)? {
        return Ok(code(status));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let client = Client::trusting(&identity);
    drop(identity); // this program may be killed at any time, and the server has read the files
    thread::spawn(move || {
        for plain in listener.incoming().flatten() {
            if is_stopping.load(Ordering::Relaxed) {
                return; // and nobody listens any more
            }
            let client = client.clone();
            thread::spawn(move || carry(plain, behind, &client));
        }
    });
    server.wait().map(code)
}

/// Ends as the server has ended.
fn code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Waits until the server listens. Returns its status if it ends before.
fn wait_for(port: u16, server: &mut Child) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        if let Some(status) = server.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > PATIENCE {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// Connects to the server from the address of the client, and carries what they say.
fn carry(plain: TcpStream, port: u16, client: &Client) -> io::Result<()> {
    let secured = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    secured.bind(&SocketAddr::new(plain.peer_addr()?.ip(), 0).into())?;
    secured.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let secured = TcpStream::from(secured);
    plain.set_nodelay(true)?;
    secured.set_nodelay(true)?;
    Tunnel::new(plain, secured, client.session())?.carry()
}

/// Ends to listen when it is asked to stop, as the server does, which is asked as well.
#[cfg(unix)]
fn heed_signals(port: u16) -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let is_stopping = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_stopping);
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            told.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port)); // wakes whoever waits for clients
        }
    });
    Ok(is_stopping)
}

#[cfg(not(unix))]
fn heed_signals(_: u16) -> io::Result<Arc<AtomicBool>> {
    Ok(Arc::default())
}
