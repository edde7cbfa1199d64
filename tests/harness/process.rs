//! A running program: its output is kept, and its child processes are killed with it.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much of a program's latest output is kept.
const KEPT: usize = 8 * 1024;

/// How long to wait for the output of a program that has ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(500);

/// A program that is killed when this is dropped, together with all processes that it started.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    may_have_children: bool,
    output: Arc<Mutex<Output>>,
}

#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    /// How many of the two pipes, stdout and stderr, are still open.
    open: usize,
}

impl Process {
    /// Starts `command`. Threads read its output all the time, because it would block on a full pipe.
    /// `may_have_children` says whether it may start other programs: to look for them takes some milliseconds.
    ///
    /// # Errors
    ///
    /// When the program does not exist or cannot be started.
    pub(crate) fn start(command: &mut Command, may_have_children: bool) -> io::Result<Process> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Arc::new(Mutex::new(Output::default()));
        if let Some(pipe) = child.stdout.take() {
            collect(pipe, &output);
        }
        if let Some(pipe) = child.stderr.take() {
            collect(pipe, &output);
        }
        Ok(Process { child, may_have_children, output })
    }

    /// The exit status of the program, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What the program has printed, stdout and stderr together: everything if it has ended, only whole lines
    /// if it is running.
    pub(crate) fn output(&mut self) -> String {
        let deadline = Instant::now() + OUTPUT_TIMEOUT;
        while self.ended().is_some() && lock(&self.output).open > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let mut output = String::from_utf8_lossy(&lock(&self.output).bytes).into_owned();
        if self.ended().is_none() {
            output.truncate(output.rfind('\n').map_or(0, |end| end + 1));
        }
        output
    }

    /// Kills the program and all processes that it has started, and waits until they have ended: what they held, such
    /// as the lock of a file, is free then.
    pub(crate) fn kill(&mut self) {
        if self.may_have_children {
            kill_children(self.child.id());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The process ids of the program and of all processes that it has started.
    pub(crate) fn process_tree(&self) -> Vec<u32> {
        if self.may_have_children { process_tree(self.id()) } else { vec![self.id()] }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(mut pipe: impl Read + Send + 'static, output: &Arc<Mutex<Output>>) {
    lock(output).open += 1;
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            let mut output = lock(&output);
            output.bytes.extend_from_slice(&piece[..count]);
            let surplus = output.bytes.len().saturating_sub(KEPT);
            output.bytes.drain(..surplus);
        }
        lock(&output).open -= 1;
    });
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process, and all processes that it has started.
#[cfg(unix)]
fn process_tree(parent: u32) -> Vec<u32> {
    let mut process_tree = vec![parent];
    let listing = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let Ok(listing) = listing else { return process_tree };
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let pairs: Vec<(u32, u32)> = listing
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
        .collect();
    let mut next = 0;
    while let Some(&member) = process_tree.get(next) {
        process_tree.extend(pairs.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| id));
        next += 1;
    }
    process_tree
}

/// Whether at least one of these processes is still running.
#[cfg(unix)]
pub(crate) fn is_any_alive(ids: &[u32]) -> bool {
    let listing = Command::new("ps").args(["-A", "-o", "pid=,stat="]).output();
    let listing = listing.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    listing.unwrap_or_default().lines().any(|line| {
        let (id, state) = line.trim().split_once(' ').unwrap_or_default();
        // A zombie: it has ended, and its parent has not waited. While others of its threads have not ended (`l`), it
        // still holds its files.
        let is_dead = state.trim().starts_with('Z') && !state.contains('l');
        !is_dead && id.parse().is_ok_and(|id| ids.contains(&id))
    })
}

/// Kills the processes that a program such as `sh`, `npm` or `cargo run` has started. To kill a process group
/// would also work, but then Ctrl-C in the terminal would not reach the server.
#[cfg(unix)]
fn kill_children(parent: u32) {
    let children = process_tree(parent).split_off(1);
    if children.is_empty() {
        return;
    }
    let ids = children.iter().map(u32::to_string);
    let _ = Command::new("kill").arg("-KILL").args(ids).stderr(Stdio::null()).status();
    let deadline = Instant::now() + TIME_TO_END;
    while is_any_alive(&children) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// How long a killed process may take to end.
#[cfg(unix)]
const TIME_TO_END: Duration = Duration::from_secs(5);

#[cfg(windows)]
fn process_tree(parent: u32) -> Vec<u32> {
    vec![parent]
}

#[cfg(windows)]
fn kill_children(parent: u32) {
    let id = parent.to_string();
    let _ = Command::new("taskkill").args(["/T", "/F", "/PID", &id]).output();
}
