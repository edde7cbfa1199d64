//! A server under test. It is started for one check and stopped after it.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::Process;
use crate::{
    Answer, Connection, Exchange, Failure, Request, Stage, choice, diagnosis, port, repository,
};

/// How long a check waits for a server to start, to answer, or to continue an answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for a server to listen, if a server of the same program was found to listen elsewhere.
const SHORT_TIMEOUT: Duration = Duration::from_millis(700);

/// Whether a server of this program was found to listen elsewhere.
static LISTENS_ON_WRONG_PORT: AtomicBool = AtomicBool::new(false);

/// The name of the server's directory, which is inside a temporary directory.
const SERVED: &str = "shared";

/// The name of the directory with the files of a web site, beside that.
const SITE: &str = "site";

/// How long to wait for a server to end, because it may have broken a connection by crashing.
const CRASH_TIME: Duration = Duration::from_millis(300);

/// The pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);

/// A running server, on a port of its own.
#[derive(Debug)]
pub struct Server {
    stage: &'static str,
    port: Port,
    process: Mutex<Process>,
    directory: Option<TempDir>,
    /// Further arguments that the server was started with, such as ` --max-body 1000`.
    args: String,
    /// Whether it got `--site`, and the check is about that.
    has_site: bool,
    /// Whether a connection has been made.
    was_reached: AtomicBool,
    /// Ports on which other programs listened before this server was started.
    taken: Vec<u16>,
    /// Held while the user's one `PORT` is in use.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Server {
    /// Starts the server to be checked: `SERVER`, `stages/mine`, or the binary of `stage`.
    ///
    /// # Errors
    ///
    /// When the program does not compile or does not exist. [`Server::connect`] finds out whether it listens.
    pub fn start(stage: &'static str) -> Result<Server, Failure> {
        Server::start_with(stage, choice::command(stage)?, None)
    }

    /// Starts the server with `--directory`, on a new empty directory that is removed at the end.
    ///
    /// # Errors
    ///
    /// As [`Server::start`], and when the directory cannot be created.
    pub fn start_with_directory(stage: &'static str) -> Result<Server, Failure> {
        Server::start_with(stage, choice::command(stage)?, Some(new_directory()?))
    }

    /// Starts the server with `--directory` and these arguments.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with_directory`].
    pub fn start_with_args(stage: &'static str, args: &[&str]) -> Result<Server, Failure> {
        let mut command = choice::command(stage)?;
        command.args(args);
        let server = Server::start_with(stage, command, Some(new_directory()?))?;
        Ok(Server { args: format!(" {}", args.join(" ")), ..server })
    }

    /// Starts the server with `--site`, on a directory with these files, with these arguments, and with
    /// `--directory`.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with_directory`].
    pub fn start_with_site(
        stage: &'static str,
        args: &[&str],
        files: &[(&str, &[u8])],
    ) -> Result<Server, Failure> {
        let directory = new_directory()?;
        let site = directory.path().join(SITE);
        fs::create_dir(&site)
            .and_then(|()| {
                files.iter().try_for_each(|(name, content)| place(&site.join(name), content))
            })
            .map_err(|error| {
                Failure::new(format!("this check cannot prepare its files: {error}"))
            })?;
        let mut command = choice::command(stage)?;
        command.args(args).arg("--site").arg(&site);
        let server = Server::start_with(stage, command, Some(directory))?;
        let args = args.iter().map(|arg| format!(" {arg}")).collect();
        Ok(Server { args, has_site: true, ..server })
    }

    /// Starts the binary of `stage`, whatever `SERVER` is; with `--directory` if the stage accepts it, and
    /// with a small `--site` if it accepts that.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with_directory`].
    pub fn start_own(stage: &'static str) -> Result<Server, Failure> {
        let directory = if stage < "stage07" { None } else { Some(new_directory()?) };
        let mut command = choice::own_command(stage)?;
        if let Some(directory) = directory.as_ref().filter(|_| stage >= "stage14") {
            let site = directory.path().join(SITE);
            place(&site.join("hello.txt"), b"Hello, World!\n")
                .map_err(|error| Failure::new(format!("cannot create a site: {error}")))?;
            command.arg("--list").arg("--site").arg(site);
        }
        Server::start_with(stage, command, directory)
    }

    /// Starts the binary of `stage`, whatever `SERVER` is, with these arguments; with `--directory` if the
    /// stage accepts it.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with_directory`].
    pub fn start_own_with_args(stage: &'static str, args: &[&str]) -> Result<Server, Failure> {
        let mut command = choice::own_command(stage)?;
        command.args(args);
        let directory = if stage < "stage07" { None } else { Some(new_directory()?) };
        Server::start_with(stage, command, directory)
    }

    /// Starts another server beside this one, with these arguments, on a port of its own, also if the user has chosen one.
    ///
    /// # Errors
    ///
    /// As [`Server::start_with_directory`].
    pub fn start_another(&self, args: &[&str]) -> Result<Server, Failure> {
        let mut command = choice::command(self.stage)?;
        command.args(args);
        let server = Server::start_on(None, self.stage, command, Some(new_directory()?))?;
        Ok(Server { args: format!(" {}", args.join(" ")), ..server })
    }

    fn start_with(
        stage: &'static str,
        command: Command,
        directory: Option<TempDir>,
    ) -> Result<Server, Failure> {
        Server::start_on(own_port()?, stage, command, directory)
    }

    fn start_on(
        own: Option<(Port, MutexGuard<'static, ()>)>,
        stage: &'static str,
        mut command: Command,
        directory: Option<TempDir>,
    ) -> Result<Server, Failure> {
        static START: Mutex<()> = Mutex::new(());
        let alone = START.lock().unwrap_or_else(PoisonError::into_inner);
        let (port, turn) =
            own.map_or_else(|| (Port::free(), None), |(port, turn)| (port, Some(turn)));
        command.current_dir(repository()).env("PORT", port.number.to_string());
        command.env("RUST_BACKTRACE", "0").env("PYTHONUNBUFFERED", "1");
        if let Some(directory) = &directory {
            command.arg("--directory").arg(directory.path().join(SERVED));
        }
        let taken = if cfg!(target_os = "linux") { Vec::new() } else { port::listening("") };
        let process = Process::start(&mut command, choice::is_command())
            .map_err(|error| Failure::new(format!("cannot start {command:?}: {error}")))?;
        drop(alone);
        Ok(Server {
            stage,
            port,
            process: Mutex::new(process),
            directory,
            args: String::new(),
            has_site: false,
            was_reached: AtomicBool::new(false),
            taken,
            _turn: turn,
        })
    }

    /// The directory that was given to the server with `--directory`.
    ///
    /// # Panics
    ///
    /// When the server was started without one: a mistake in the check.
    pub fn directory(&self) -> PathBuf {
        self.outside().expect("the check starts the server with a directory").join(SERVED)
    }

    /// The directory that was given to the server with `--site`.
    ///
    /// # Panics
    ///
    /// When the server was started without one: a mistake in the check.
    pub fn site(&self) -> PathBuf {
        self.outside().expect("started with a site").join(SITE)
    }

    /// The directory that contains the server's directory, if it has one. Clients must not reach the other
    /// files in it.
    pub fn outside(&self) -> Option<&Path> {
        self.directory.as_ref().map(TempDir::path)
    }

    /// The port that the server was told to listen on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The process id of the server.
    pub fn process_id(&self) -> u32 {
        self.process().id()
    }

    /// The arguments that the server was started with, and what is in its directory now. Empty if it was started
    /// without a directory.
    pub(crate) fn started(&self) -> String {
        let Some(outside) = self.outside() else { return String::new() };
        let (option, name) = if self.has_site { ("--site", SITE) } else { ("--directory", SERVED) };
        let directory = outside.join(name);
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let content = match names.len() {
            0 => "is empty".to_owned(),
            _ => format!("holds: {}", names.join(", ")),
        };
        format!("with{} {option} {}, which {content}", self.args, directory.display())
    }

    /// The most memory that the server has used since it was started, in KiB (see proc(5), VmHWM).
    ///
    /// # Errors
    ///
    /// When the system does not say.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> Result<u64, Failure> {
        let used = peak_memory_of(self.process_id());
        used.ok_or_else(|| Failure::new("/proc does not say how much memory the server has used"))
    }

    /// The most memory that any process of the server has used since it was started, in KiB.
    #[cfg(target_os = "linux")]
    pub fn peak_memory_of_all(&self) -> u64 {
        let process_tree = self.process().process_tree();
        process_tree.into_iter().filter_map(peak_memory_of).max().unwrap_or(0)
    }

    /// How much time of a processor all processes of the server have used.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    #[cfg(target_os = "linux")]
    pub fn processor_time(&self) -> Result<Duration, Failure> {
        let ids = self.process().process_tree();
        let ticks: u64 = ids.into_iter().filter_map(ticks_of).sum();
        Ok(Duration::from_millis(ticks * 10)) // a hundred ticks a second, on all systems that anybody uses
    }

    /// What the server has written to stdout and stderr.
    pub fn output(&self) -> String {
        self.process().output()
    }

    /// Sends `GET path` and waits for the answer.
    pub fn get(&self, path: &str) -> Exchange {
        self.request("GET", path).send()
    }

    /// A request to be completed and sent.
    pub fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request::new(self, method, target)
    }

    /// Sends bytes as they are and waits for the answer.
    pub fn send(&self, bytes: &[u8]) -> Exchange {
        self.exchange_with(bytes, |connection| {
            connection.send(bytes)?;
            connection.answer()
        })
    }

    /// Waits for the answer on a connection on which the check has sent the bytes itself.
    pub fn answer(&self, connection: &mut Connection) -> Exchange {
        let sent = connection.sent().to_vec();
        let answer = connection.answer();
        self.exchange(&sent, answer)
    }

    /// Sends `sent` on a connection of its own, and waits for the answer.
    pub(crate) fn exchange_with(
        &self,
        sent: &[u8],
        talk: impl FnOnce(&mut Connection) -> Result<Answer, Failure>,
    ) -> Exchange {
        match self.connect() {
            Err(failure) => self.exchange(sent, Err(failure)),
            Ok(mut connection) => {
                let answer = talk(&mut connection);
                // The connection is still open here: what the server prints when it closes is not the cause.
                self.exchange(sent, answer)
            }
        }
    }

    pub(crate) fn exchange(&self, sent: &[u8], answer: Result<Answer, Failure>) -> Exchange {
        Exchange::new(sent, answer.map_err(|failure| self.finish(failure)), self)
    }

    /// Sends a request with the method HEAD as it is, and waits for the answer, which has no body.
    pub fn send_head(&self, bytes: &[u8]) -> Exchange {
        self.exchange_with(bytes, |connection| {
            connection.send(bytes)?;
            connection.answer_to("HEAD")
        })
    }

    /// Opens a connection. Waits for the server if it has only just been started.
    ///
    /// # Errors
    ///
    /// When the server has ended, refuses connections, or listens on another port.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        let start = Instant::now();
        loop {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Connection::new(stream).map_err(|failure| self.finish(failure));
                }
                Err(error) => self
                    .may_still_come(&error, start)
                    .map_err(|failure| failure.started(&self.started()).read(self.chapter()))?,
            }
            thread::sleep(PAUSE);
        }
    }

    /// Opens a connection from another address of this machine, such as 127.0.0.2.
    ///
    /// # Errors
    ///
    /// As [`Server::connect`].
    pub fn connect_from(&self, from: Ipv4Addr) -> Result<Connection, Failure> {
        self.connect()?; // the server may have been started only now
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.connect_timeout(&address.into(), TIMEOUT)?;
            Ok(TcpStream::from(socket))
        };
        let connected: io::Result<TcpStream> = connect();
        let failed = |error| Failure::new(format!("cannot connect from {from}: {error}"));
        Connection::new(connected.map_err(failed)?).map_err(|failure| self.finish(failure))
    }

    /// Kills the server, as a power failure would. Other threads may be talking to it.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Whether to try again to connect. The error says why the server cannot be reached.
    fn may_still_come(&self, error: &io::Error, start: Instant) -> Result<(), Failure> {
        self.is_running()?;
        let mut process = self.process();
        let was_reached = self.was_reached.load(Ordering::Relaxed);
        // A server may listen on a second port a little before the right one, so this waits for a while.
        let listened_elsewhere = LISTENS_ON_WRONG_PORT.load(Ordering::Relaxed);
        let timeout = if listened_elsewhere && !was_reached { SHORT_TIMEOUT } else { TIMEOUT };
        if start.elapsed() < timeout {
            return Ok(());
        }
        if was_reached {
            let failure = diagnosis::full(error);
            let spins = diagnosis::spins(&process.process_tree());
            return Err(if spins { failure.cause(diagnosis::SPINS) } else { failure });
        }
        let elsewhere = diagnosis::elsewhere(&mut process, self.port(), &self.taken);
        LISTENS_ON_WRONG_PORT.store(elsewhere.is_some(), Ordering::Relaxed);
        Err(elsewhere
            .unwrap_or_else(|| diagnosis::unreachable(self.port(), error, &process.output())))
    }

    /// Asks the server to end, with the signal SIGTERM. Returns its process and all processes that it has
    /// started, as a shell does.
    #[cfg(unix)]
    pub fn ask_to_stop(&self) -> Vec<u32> {
        let process_tree = self.process().process_tree();
        let ids = process_tree.iter().map(u32::to_string);
        let _ = Command::new("kill").arg("-TERM").args(ids).status();
        process_tree
    }

    /// Waits until all of these processes have ended, but no longer than `time`. Returns whether they have.
    #[cfg(unix)]
    pub fn all_ended_within(&self, process_tree: &[u32], time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while crate::process::is_any_alive(process_tree) {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// Whether the server's port accepts connections.
    pub fn accepts(&self) -> bool {
        port::answers(self.port())
    }

    /// How the server has ended; `None` if it is running.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process().ended()
    }

    /// Fails if the server has ended.
    ///
    /// # Errors
    ///
    /// With its exit status and the end of its output.
    pub fn is_running(&self) -> Result<(), Failure> {
        let mut process = self.process();
        match process.ended() {
            Some(status) => {
                let was_reached = self.was_reached.load(Ordering::Relaxed);
                Err(diagnosis::ended(status, &process.output(), was_reached))
            }
            None => Ok(()),
        }
    }

    /// Completes a failure with what is known about the server: whether it has ended, its output, how it was
    /// started, and its chapter.
    pub fn finish(&self, failure: Failure) -> Failure {
        let deadline = Instant::now() + CRASH_TIME;
        while self.is_running().is_ok() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        let failure = match self.is_running() {
            Err(ended) => ended.bytes_of(failure),
            Ok(()) if failure.is_guess() && diagnosis::spins(&self.process().process_tree()) => {
                failure.cause(diagnosis::SPINS)
            }
            Ok(()) => diagnosis::accident(failure, &self.output()),
        };
        failure.started(&self.started()).output(&self.output()).read(self.chapter())
    }

    /// The chapter of the stage, such as `docs/04-echo.md`.
    pub fn chapter(&self) -> String {
        let stage = Stage::all().into_iter().find(|stage| stage.name() == self.stage);
        stage.map(|stage| stage.chapter()).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that a process has used, in ticks: the fields utime and stime (see proc(5)).
#[cfg(target_os = "linux")]
fn ticks_of(process_id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    let (_, after) = text.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The most memory that a process has used, in KiB.
#[cfg(target_os = "linux")]
fn peak_memory_of(process_id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn new_directory() -> Result<TempDir, Failure> {
    let made = TempDir::new().and_then(|it| fs::create_dir(it.path().join(SERVED)).map(|()| it));
    made.map_err(|error| Failure::new(format!("cannot create a temporary directory: {error}")))
}

/// Writes a file, and makes the folders above it.
fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, content)
}

/// The user's own `PORT`, if there is one. One check uses it at a time.
fn own_port() -> Result<Option<(Port, MutexGuard<'static, ()>)>, Failure> {
    static TURN: Mutex<()> = Mutex::new(());
    let Ok(wanted) = env::var("PORT") else { return Ok(None) };
    let port: u16 = wanted.parse().unwrap_or(0);
    if port == 0 {
        return Err(Failure::new(format!(
            "PORT is not a port that a server can listen on: {wanted}"
        )));
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    while port::answers(port) {
        if start.elapsed() > TIMEOUT {
            return Err(Failure::new(format!("another program already listens on port {port}"))
                .cause(
                    "PORT is set, so the checks use only that port. Stop the other program. Is your server \
                     still running in another terminal?",
                ));
        }
        thread::sleep(PAUSE);
    }
    Ok(Some((Port::fixed(port), turn)))
}
