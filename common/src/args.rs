//! The command line of every stage: where to listen and, from stage 7 on, which directory to serve.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::app::application::App;
use crate::app::cors::{Cors, origin};
use crate::app::routes::{add_middleware, earlier_routes};
use crate::content::directory::Directory;
use crate::content::site::Site;
use crate::message::target::{host_of, is_authority};
use crate::protocol::limits::Limits;
use crate::serve::access_log::RequestLog;
use crate::serve::log::{self, LogFormat};
use crate::serve::proxies::{Network, Proxies};
use crate::serve::service::{Driven, Service};
use crate::serve::stop::survive_large_files;
use crate::transport::client::TIMEOUT;
use crate::transport::listener::Listener;

/// The options that the user gave on the command line.
#[derive(Debug, Clone)]
pub struct Args {
    /// The TCP port to listen on, from `--port` or else `PORT`; 4221 if neither is given.
    /// 0 means any free port.
    pub port: u16,
    /// The directory to serve, from `--directory`: an absolute path without symbolic links.
    pub directory: Option<PathBuf>,
    /// The same directory by the name that the user gave, made absolute. Symbolic links in it may
    /// be switched while the server runs.
    named_directory: Option<PathBuf>,
    /// The directory of the web site, from `--site`, as [`Args::named_directory`].
    named_site: Option<PathBuf>,
    /// For how many seconds clients may use a file without asking again, from `--max-age`.
    pub max_age: Option<u64>,
    /// Whether the web site lists folders that have no page of their own, from `--list`.
    pub list: bool,
    /// The limits for clients, from the options of a server that has such options.
    pub limits: Limits,
    /// How long a read from a client, or a write to it, may wait, from `--timeout`.
    timeout: Duration,
    /// Whether only failures and refusals are logged, from `--quiet`.
    pub quiet: bool,
    /// The format of the log, from `--log`.
    pub log: LogFormat,
    /// The other sites whose pages may read answers, from `--allow-origin`; `*` stands for all.
    pub origins: Vec<String>,
    /// Whether pages of other sites may send what identifies the user, from `--allow-credentials`.
    pub allow_credentials: bool,
    /// How many requests a second are answered for each address, from `--rate`.
    pub rate: Option<u32>,
    /// The proxies whose word about the client counts, from `--trusted-proxy`.
    pub proxies: Proxies,
    /// How many bytes a body of JSON, or a form, may have, from `--max-json`.
    pub max_json: u64,
    /// Whether a record can only be changed by who says which version it has seen, from `--require-if-match`.
    pub require_if_match: bool,
    /// The file in which records are kept, from `--store`.
    pub store: Option<PathBuf>,
    /// How many clients may watch the records at the same time, from `--max-watchers`.
    pub max_watchers: usize,
    /// How long a watcher hears nothing before it is told that it is still watching, from `--heartbeat`.
    pub heartbeat: Duration,
    /// Whether each connection has a thread of its own, from `--threads`.
    pub threads: bool,
    /// For how long the server goes on when it is asked to stop, from `--drain`.
    pub drain: Duration,
    /// Of which time the files of the site are, in seconds since the beginning of 1970, from `--site-date`.
    site_date: Option<u64>,
    /// What is needed for TLS, from `--cert`, `--key`, `--self-signed` and the like.
    pub secure: Secure,
}

/// What the user chose for TLS. From stage 22.
#[derive(Debug, Clone, Default)]
pub struct Secure {
    /// The files with certificates and those with their keys, from `--cert` and `--key`.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Whether to make a certificate for trying it out, from `--self-signed`.
    pub self_signed: bool,
    /// A second port, without TLS, from `--http-port`.
    pub http_port: Option<u16>,
    /// Where that port sends its clients, from `--host`: a name or an address, and perhaps a port.
    pub host: Option<String>,
    /// For how many seconds browsers should not come without TLS, from `--hsts`.
    pub hsts: u32,
}

impl Secure {
    /// Whether the server speaks TLS.
    pub fn is_wanted(&self) -> bool {
        self.self_signed || !self.pairs.is_empty()
    }
}

/// The default of [`Secure::hsts`], in seconds.
const HSTS: u32 = 300;

/// The default of [`Args::max_json`], in bytes.
const MAX_JSON: u64 = 1024 * 1024;

/// The default of [`Args::max_watchers`].
const MAX_WATCHERS: u64 = 100;

/// The default of [`Args::heartbeat`], in seconds.
const HEARTBEAT: u64 = 15;

impl Args {
    /// Binds [`Args::port`] of 127.0.0.1 and announces the address on stdout.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn listen(&self) -> io::Result<Listener> {
        self.announced(Listener::bind(self.port)?)
    }

    fn announced(&self, listener: Listener) -> io::Result<Listener> {
        let listener = listener.with_timeout(self.timeout);
        match self.secure.is_wanted() {
            true => announce_as("https", listener.address()),
            false => announce(listener.address()),
        }
        Ok(listener)
    }

    /// Listens as [`Args::listen`] does, and returns a service with [`Args::limits`].
    ///
    /// # Errors
    ///
    /// As [`Args::listen`] and [`Service::new`].
    pub fn service(&self) -> io::Result<Service> {
        Ok(Service::new(self.listen()?, self.limits)?.quiet(self.quiet))
    }

    /// Returns the files of [`Args::directory`], or no files if there is no directory. Uploads that earlier programs
    /// left unfinished there are removed.
    pub fn files(&self) -> Directory {
        Directory::new(self.named_directory.clone()).without_left_overs()
    }
}

impl Args {
    /// Returns the members of the cluster that `--store` names, each with its port; `None` if it names a file. From stage
    /// 23.
    ///
    /// # Errors
    ///
    /// When one of them is no `http://HOST:PORT`.
    pub fn members(&self) -> io::Result<Option<Vec<String>>> {
        let named = self.store.as_ref().and_then(|path| path.to_str());
        let Some(urls) = named.filter(|name| name.contains("://")) else { return Ok(None) };
        let member = |url: &str| {
            let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            let has_port =
                |name: &&str| is_authority(name.as_bytes()) && host_of(name).len() < name.len();
            authority.filter(has_port).map(str::to_owned).ok_or_else(|| {
                io::Error::other(format!("--store: {url} is not like http://localhost:2379"))
            })
        };
        urls.split(',').map(member).collect::<io::Result<_>>().map(Some)
    }

    /// Returns the files of the web site, from `--site`; no files without it. From stage 13.
    pub fn site(&self) -> Directory {
        Directory::new(self.named_site.clone())
    }
}

impl Args {
    /// Returns the routes of the earlier stages, with the files and the site that the user has chosen. From stage 18.
    pub fn app(&self, files: &Directory) -> App {
        let site = Site::new(self.site()).list_folders(self.list).dated(self.site_date);
        let mut app = earlier_routes(files, site);
        add_middleware(&mut app, self.rate, self.max_age);
        app
    }

    /// Listens, and answers requests with this program until the program is asked to stop. The log, the rules for other
    /// sites, and the limits are those that the user has chosen. From stage 18.
    ///
    /// # Errors
    ///
    /// As [`Args::listen`] and [`App::run`].
    pub fn run(&self, mut app: App) -> io::Result<()> {
        app.share(Cors::new(self.origins.clone(), self.allow_credentials)?);
        app.checked()?.serve(self.logging(self.service()?))
    }

    /// Listens, as [`Args::run`] does, but hands the connections to somebody else who drives them. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`Args::run`].
    pub fn driven(&self, mut app: App) -> io::Result<Driven> {
        app.share(Cors::new(self.origins.clone(), self.allow_credentials)?);
        let mut app = app.checked()?;
        let listener = self.announced(Listener::bind_for_several(self.port)?)?;
        let service = Service::without_threads(listener, self.limits)?;
        let service = self.logging(service).unpacking();
        app.heed_signals(&service)?;
        app.driven(service)
    }

    /// Listens on the port from `--http-port` as well, if there is one, with the same log and limits. From stage 22.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn plain_service(&self) -> io::Result<Option<Service>> {
        let Some(port) = self.secure.http_port else { return Ok(None) };
        let listener = Listener::bind(port)
            .map_err(|error| io::Error::other(format!("--http-port {port}: {error}")))?;
        announce(listener.address());
        Ok(Some(self.logging(Service::new(listener, self.limits)?)))
    }

    /// Returns the host to which clients without TLS are sent, from `--host`. From stage 22.
    pub fn https_host(&self) -> String {
        self.secure.host.clone().unwrap_or_else(|| format!("localhost:{}", self.port))
    }

    fn logging(&self, service: Service) -> Service {
        let log = RequestLog { format: self.log, proxies: self.proxies.clone() };
        service.with_request_log(log)
    }
}

/// Prints on stdout where a server listens. If stdout is closed, the server goes on, whereas
/// `println!` would panic.
pub fn announce(address: SocketAddr) {
    announce_as("http", address);
}

fn announce_as(scheme: &str, address: SocketAddr) {
    let _ = writeln!(io::stdout(), "listening on {scheme}://{address}");
}

/// Runs a server with the options `--port` and `--timeout`: reads the command line, then calls
/// `serve`.
///
/// An error is reported as one sentence on stderr, with the exit code 1. An invalid command line is
/// reported with clap's explanation, and the exit code 2.
pub fn run(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command().arg(timeout()), serve)
}

/// Runs a server with the option `--directory` as well. Errors are handled as in [`run`].
pub fn run_with_directory(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command().arg(timeout()).arg(directory()), serve)
}

/// Runs a server with the options `--port`, `--directory` and `--quiet`, and one for each of the
/// [`Limits`]. Errors are handled as in [`run`].
pub fn run_with_limits(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command_with_limits(), serve)
}

/// Runs a server with the options of [`run_with_limits`], and with `--site` and `--list`. Errors are handled as
/// in [`run`]. From stage 13.
pub fn run_with_site(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command_with_limits().args(site()), serve)
}

/// Runs a server with the options of [`run_with_site`], and with `--max-age`. Errors are handled as in [`run`]. From
/// stage 14.
pub fn run_with_caching(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command_with_limits().args(site()).arg(max_age()), serve)
}

/// Runs a server with the options of [`run_with_caching`], and with those of the middleware: `--log`,
/// `--allow-origin`, `--allow-credentials` and `--rate`. Errors are handled as in [`run`]. From stage 17.
pub fn run_with_middleware(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(command_with_limits().args(site()).arg(max_age()).args(middleware()), serve)
}

/// Runs a server with the options of [`run_with_middleware`], and with `--trusted-proxy`. Errors are handled as in
/// [`run`]. From stage 18.
pub fn run_app(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(app_command(), serve)
}

/// Runs a server with the options of [`run_app`], and with `--max-json` and `--require-if-match`. Errors are handled as
/// in [`run`]. From stage 18.
pub fn run_api(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(app_command().args(api()), serve)
}

/// Runs a server with the options of [`run_api`], and with `--store`. Errors are handled as in [`run`]. From stage 19.
pub fn run_store(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(app_command().args(api()).arg(store()), serve)
}

/// Runs a server with the options of [`run_store`], and with `--max-watchers` and `--heartbeat`. Errors are handled as
/// in [`run`]. From stage 20.
pub fn run_live(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(app_command().args(api()).arg(store()).args(watchers()), serve)
}

/// Runs a server with the options of [`run_live`], and with `--threads`. Errors are handled as in [`run`]. From stage 21.
pub fn run_driven(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(driven_command(), serve)
}

/// Runs a server with the options of [`run_driven`], and with those for TLS: `--cert`, `--key`, `--self-signed`,
/// `--http-port`, `--host` and `--hsts`. Errors are handled as in [`run`]. From stage 22.
pub fn run_secure(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    start(driven_command().args(secure()), serve)
}

/// Runs a server with the options of [`run_secure`], and with `--drain` and `--site-date`; `--store` may name the members
/// of a cluster. Errors are handled as in [`run`]. From stage 23.
pub fn run_one_of_many(serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    let command = driven_command().args(secure()).args(one_of_many());
    let store =
        "Keep the records in this file, or in the cluster with these members (http://HOST:PORT,…)";
    start(command.mut_arg("store", |arg| arg.value_name("FILE|URLS").help(store)), serve)
}

fn one_of_many() -> [Arg; 2] {
    let seconds = value_parser!(u64).range(..=u64::from(u32::MAX));
    [
        Arg::new("drain")
            .long("drain")
            .value_name("SECONDS")
            .default_value("0")
            .value_parser(seconds)
            .help("When asked to stop, go on for this time, while /readyz says that no more should come"),
        Arg::new("site-date")
            .long("site-date")
            .value_name("SECONDS")
            .value_parser(seconds)
            .help("Let all files of the site be of this time (since 1970), so that all machines show the same"),
    ]
}

fn driven_command() -> Command {
    let threads = Arg::new("threads")
        .long("threads")
        .action(ArgAction::SetTrue)
        .help("Give each connection a thread of its own, and not all of them an event loop");
    app_command().args(api()).arg(store()).args(watchers()).arg(threads)
}

fn secure() -> [Arg; 6] {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    [
        file("cert", "Speak TLS, with the certificates in this file (PEM), the server's own first")
            .requires("key"),
        file("key", "The private key (PEM) for the certificate before it").requires("cert"),
        Arg::new("self-signed")
            .long("self-signed")
            .conflicts_with("cert")
            .action(ArgAction::SetTrue)
            .help("Speak TLS with a certificate that is made for this, to try it out"),
        Arg::new("http-port")
            .long("http-port")
            .value_name("PORT")
            .value_parser(value_parser!(u16))
            .help("Listen on this port as well, without TLS, and send clients to the other one"),
        Arg::new("host")
            .long("host")
            .value_name("HOST")
            .value_parser(host)
            .help("Where they are sent, such as example.org; without it, localhost and the port"),
        Arg::new("hsts")
            .long("hsts")
            .value_name("SECONDS")
            .default_value(HSTS.to_string())
            .value_parser(value_parser!(u32))
            .help("Tell browsers not to come without TLS for this time; 0 tells them nothing"),
    ]
}

/// Checks a host with or without a port.
fn host(text: &str) -> Result<String, String> {
    match is_authority(text.as_bytes()) {
        true => Ok(text.to_owned()),
        false => Err("it is not a name or an address, with or without a port".to_owned()),
    }
}

fn store() -> Arg {
    Arg::new("store")
        .long("store")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Keep the records in this file; without it, they are gone when the server ends")
}

fn watchers() -> [Arg; 2] {
    let number = |name: &'static str, default: u64| {
        Arg::new(name)
            .long(name)
            .default_value(default.to_string())
            .value_parser(value_parser!(u64).range(1..=u64::from(u32::MAX)))
    };
    [
        number("max-watchers", MAX_WATCHERS)
            .value_name("NUMBER")
            .help("Let at most this many clients watch the records, and answer 503 to the others"),
        number("heartbeat", HEARTBEAT)
            .value_name("SECONDS")
            .help("Send a comment to watchers after this time without a change"),
    ]
}

fn api() -> [Arg; 2] {
    [
        Arg::new("max-json")
            .long("max-json")
            .value_name("BYTES")
            .default_value(MAX_JSON.to_string())
            .value_parser(value_parser!(u64).range(1..=u64::from(u32::MAX)))
            .help("Refuse larger bodies of JSON, and larger forms, with 413"),
        Arg::new("require-if-match")
            .long("require-if-match")
            .action(ArgAction::SetTrue)
            .help("Refuse with 428 to change a record for a client that does not say which version it has seen"),
    ]
}

fn app_command() -> Command {
    let proxy = Arg::new("trusted-proxy")
        .long("trusted-proxy")
        .value_name("ADDRESS")
        .action(ArgAction::Append)
        .value_parser(Network::from_str)
        .help("Believe what a proxy with this address, or in this block, says about its clients");
    command_with_limits().args(site()).arg(max_age()).args(middleware()).arg(proxy)
}

fn max_age() -> Arg {
    Arg::new("max-age")
        .long("max-age")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64).range(..=u64::from(u32::MAX)))
        .help("Let clients use files for this time without asking again")
}

fn middleware() -> [Arg; 4] {
    [
        Arg::new("log")
            .long("log")
            .value_name("FORMAT")
            .default_value("plain")
            .value_parser(["plain", "combined", "json", "logfmt", "off"])
            .help("Write the lines about requests in this format"),
        Arg::new("allow-origin")
            .long("allow-origin")
            .value_name("ORIGIN")
            .action(ArgAction::Append)
            .value_parser(origin)
            .help("Let the pages of this other site read answers; * for all sites"),
        Arg::new("allow-credentials")
            .long("allow-credentials")
            .requires("allow-origin")
            .action(ArgAction::SetTrue)
            .help("Let the pages of other sites send cookies and passwords"),
        Arg::new("rate")
            .long("rate")
            .value_name("NUMBER")
            .value_parser(value_parser!(u32).range(1..))
            .help("Answer this many requests a second for each address, and 429 to more"),
    ]
}

fn timeout() -> Arg {
    Arg::new("timeout")
        .long("timeout")
        .value_name("SECONDS")
        .default_value(TIMEOUT.as_secs().to_string())
        .value_parser(value_parser!(u64).range(1..=u64::from(u32::MAX)))
        .help("Give up a client that says nothing, or takes nothing, for this time")
}

fn directory() -> Arg {
    Arg::new("directory")
        .long("directory")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Serve the files of this directory under /files/")
}

fn site() -> [Arg; 2] {
    [
        Arg::new("site")
            .long("site")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("Serve the files of this directory as a web site"),
        Arg::new("list")
            .long("list")
            .requires("site")
            .action(ArgAction::SetTrue)
            .help("List the files of a folder that has no index.html"),
    ]
}

fn limits() -> [Arg; 7] {
    let limits = Limits::default();
    let limit = |name: &'static str, unit: &'static str, default: u64, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(unit)
            .default_value(default.to_string())
            .value_parser(value_parser!(u64).range(1..=u64::from(u32::MAX) * 1024))
            .help(help)
    };
    let seconds = |name, default: Duration, help| limit(name, "SECONDS", default.as_secs(), help);
    [
        limit(
            "max-connections",
            "NUMBER",
            limits.max_connections as u64,
            "Serve at most this many connections at a time, and answer 503 to the others",
        ),
        limit("max-body", "BYTES", limits.max_body, "Refuse larger request bodies with 413"),
        seconds(
            "idle-timeout",
            limits.idle_timeout,
            "Close a connection after this time of silence",
        ),
        seconds(
            "head-timeout",
            limits.head_timeout,
            "Allow this time for a request's head to arrive",
        ),
        seconds(
            "body-timeout",
            limits.body_timeout,
            "Allow this time for a request's body, and a second more per 1000 bytes",
        ),
        seconds(
            "send-timeout",
            limits.send_timeout,
            "Give up a client that takes nothing of a response for this time",
        ),
        seconds(
            "stop-timeout",
            limits.stop_timeout,
            "When stopped, allow this time for requests to finish",
        ),
    ]
}

/// Returns the limits from the command line, or the default ones for a server without such options.
fn chosen_limits(matches: &ArgMatches) -> Limits {
    let default = Limits::default();
    let number = |name: &str| matches.try_get_one::<u64>(name).ok().flatten().copied();
    let seconds = |name: &str, default| number(name).map_or(default, Duration::from_secs);
    let connections = number("max-connections").and_then(|number| usize::try_from(number).ok());
    Limits {
        max_connections: connections.unwrap_or(default.max_connections),
        max_body: number("max-body").unwrap_or(default.max_body),
        idle_timeout: seconds("idle-timeout", default.idle_timeout),
        head_timeout: seconds("head-timeout", default.head_timeout),
        body_timeout: seconds("body-timeout", default.body_timeout),
        send_timeout: seconds("send-timeout", default.send_timeout),
        stop_timeout: seconds("stop-timeout", default.stop_timeout),
    }
}

fn command() -> Command {
    let port = Arg::new("port")
        .long("port")
        .env("PORT")
        .default_value("4221")
        .value_parser(value_parser!(u16))
        .help("Listen on this port of 127.0.0.1; 0 picks a free one");
    Command::new(program_name())
        .version(env!("CARGO_PKG_VERSION"))
        .about("A stage of the course: an HTTP/1.1 server on 127.0.0.1")
        .arg(port)
}

fn command_with_limits() -> Command {
    let quiet = Arg::new("quiet")
        .long("quiet")
        .action(ArgAction::SetTrue)
        .help("Log refusals and failures only, and no request that was answered");
    command().arg(directory()).args(limits()).arg(quiet)
}

/// Returns the name under which the program was started, such as `stage04`.
fn program_name() -> String {
    let started_as = std::env::args_os().next().unwrap_or_else(|| OsString::from("stage"));
    Path::new(&started_as).file_stem().unwrap_or(&started_as).to_string_lossy().into_owned()
}

fn start(command: Command, serve: impl FnOnce(&Args) -> io::Result<()>) -> ExitCode {
    survive_large_files();
    log::panics();
    let served = chosen_args(&command.get_matches())
        .and_then(|args| serve(&args).map_err(|error| explain(&error, args.port)));
    log::flush();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            let _ = writeln!(io::stderr(), "error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// What the user asked for, and the defaults for the rest, even for options that this server does not take.
fn chosen_args(matches: &ArgMatches) -> Result<Args, String> {
    let path = |name: &str| matches.try_get_one::<PathBuf>(name).ok().flatten();
    let flag = |name: &str| matches.try_get_one(name).ok().flatten().copied().unwrap_or(false);
    let absolute = |path: &PathBuf| std::path::absolute(path).ok();
    let number = |name: &str, otherwise| {
        matches.try_get_one(name).ok().flatten().copied().unwrap_or(otherwise)
    };
    let timeout = matches.try_get_one("timeout").ok().flatten().copied();
    resolve("--site", path("site"))?;
    let proxies = matches.try_get_many::<Network>("trusted-proxy").ok().flatten();
    let origins = matches.try_get_many::<String>("allow-origin").ok().flatten();
    let origins: Vec<_> = origins.into_iter().flatten().cloned().collect();
    Cors::new(origins.clone(), flag("allow-credentials")).map_err(|error| error.to_string())?;
    Ok(Args {
        port: matches.get_one("port").copied().unwrap_or(4221),
        directory: resolve("--directory", path("directory"))?,
        named_directory: path("directory").and_then(absolute),
        named_site: path("site").and_then(absolute),
        max_age: matches.try_get_one("max-age").ok().flatten().copied(),
        list: flag("list"),
        limits: chosen_limits(matches),
        timeout: timeout.map_or(TIMEOUT, Duration::from_secs),
        quiet: flag("quiet"),
        log: chosen_format(matches),
        origins,
        allow_credentials: flag("allow-credentials"),
        rate: matches.try_get_one("rate").ok().flatten().copied(),
        max_json: number("max-json", MAX_JSON),
        require_if_match: flag("require-if-match"),
        store: path("store").cloned(),
        max_watchers: usize::try_from(number("max-watchers", MAX_WATCHERS)).unwrap_or(usize::MAX),
        heartbeat: Duration::from_secs(number("heartbeat", HEARTBEAT)),
        threads: flag("threads"),
        drain: Duration::from_secs(number("drain", 0)),
        site_date: matches.try_get_one("site-date").ok().flatten().copied(),
        secure: chosen_secure(matches)?,
        proxies: Proxies::new(proxies.into_iter().flatten().copied()),
    })
}

fn chosen_secure(matches: &ArgMatches) -> Result<Secure, String> {
    let files = |name: &str| -> Vec<PathBuf> {
        matches
            .try_get_many::<PathBuf>(name)
            .ok()
            .flatten()
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    };
    let (certificates, keys) = (files("cert"), files("key"));
    if certificates.len() != keys.len() {
        let (first, second) = (certificates.len(), keys.len());
        return Err(format!(
            "there are {first} --cert and {second} --key; each --cert needs a --key"
        ));
    }
    let secure = Secure {
        pairs: certificates.into_iter().zip(keys).collect(),
        self_signed: matches.try_get_one("self-signed").ok().flatten().copied().unwrap_or(false),
        http_port: matches.try_get_one("http-port").ok().flatten().copied(),
        host: matches.try_get_one("host").ok().flatten().cloned(),
        hsts: matches.try_get_one("hsts").ok().flatten().copied().unwrap_or(HSTS),
    };
    match secure.http_port {
        Some(_) if !secure.is_wanted() => {
            Err("--http-port is for a server with TLS: give --cert and --key, or --self-signed"
                .into())
        }
        Some(_) if secure.host.is_none() && matches.get_one("port") == Some(&0_u16) => {
            Err("--http-port with --port 0 needs --host: where should clients be sent?".into())
        }
        _ => Ok(secure),
    }
}

fn chosen_format(matches: &ArgMatches) -> LogFormat {
    match matches.try_get_one::<String>("log").ok().flatten().map(String::as_str) {
        Some("combined") => LogFormat::Combined,
        Some("json") => LogFormat::Json,
        Some("logfmt") => LogFormat::Logfmt,
        Some("off") => LogFormat::Off,
        _ => LogFormat::Plain,
    }
}

/// The real path of a directory that an option names.
fn resolve(option: &str, directory: Option<&PathBuf>) -> Result<Option<PathBuf>, String> {
    let Some(directory) = directory else { return Ok(None) };
    let shown = directory.display();
    match directory.canonicalize() {
        Ok(path) if path.is_dir() => Ok(Some(path)),
        Ok(_) => Err(format!("{option}: {shown} is a file; name the directory that holds it")),
        Err(error) => Err(format!("{option}: cannot use {shown} ({error}); name one that exists")),
    }
}

fn explain(error: &io::Error, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use; stop the program that has it (an earlier stage? press Ctrl-C \
             there), or choose a free port with --port 0"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} is not allowed here; choose one above 1023, or a free one with --port 0"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_port_is_4221_unless_told() {
        let matches =
            command().mut_arg("port", |port| port.env(None::<&str>)).get_matches_from(["stage01"]);
        assert_eq!(matches.get_one::<u16>("port"), Some(&4221));
    }

    #[test]
    fn a_port_is_a_number_up_to_65535() {
        assert!(command().try_get_matches_from(["stage01", "--port", "65536"]).is_err());
        assert!(command().try_get_matches_from(["stage01", "--port", "http"]).is_err());
    }

    #[test]
    fn errors_of_binding_name_the_port_and_a_remedy() {
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        let sentence = explain(&taken, 4221);
        assert!(sentence.contains("4221") && sentence.contains("--port"), "{sentence}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let missing = PathBuf::from("surely/not/here");
        assert!(
            resolve("--directory", Some(&missing))
                .is_err_and(|sentence| sentence.contains("surely"))
        );
        assert_eq!(resolve("--directory", None), Ok(None));
    }
}
