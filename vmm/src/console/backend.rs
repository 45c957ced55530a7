//! Opens what `--console` names and runs its threads.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::escape::{Escape, Item, Keys};
use super::input::{InputQueue, WhenFull};
use super::monitor::{LineEditor, PROMPT};
use super::output::{OutputQueue, Port};
use super::terminal::{self, RawGuard};
use super::{ConsoleKind, SerialLine};
use crate::exit::Failure;

/// What the console tells the main thread.
#[derive(Debug)]
pub enum ConsoleEvent {
    /// A key that is for `vmm`.
    Key(Escape),
    /// A line typed into the monitor.
    MonitorLine(String),
    /// The output side failed for good.
    OutputFailed(io::Error),
}

/// Receives [`ConsoleEvent`]s from the console's threads.
pub type EventSink = Arc<dyn Fn(ConsoleEvent) + Send + Sync>;

/// An open console. Dropping it restores the terminal and removes the socket.
pub struct Console {
    line: SerialLine,
    _raw: Option<RawGuard>,
    socket: Option<PathBuf>,
}

impl Console {
    /// Connects `line` with the host and starts the reader and writer threads.
    pub fn open(kind: &ConsoleKind, line: &SerialLine, events: EventSink) -> Result<Console, Failure> {
        let mut console = Console { line: line.clone(), _raw: None, socket: None };
        let failed = |what: &str, error: io::Error| Failure::backend(format!("--console: {what}: {error}"));
        match kind {
            ConsoleKind::Stdio => {
                console._raw = RawGuard::enter().map_err(|e| failed("the terminal cannot be made raw", e))?;
                console.write_to(Box::new(Stdout), &events)?;
                let keys = io::stdin().is_terminal();
                let reader = StdinReader { input: Arc::clone(&line.input), output: Arc::clone(&line.output), events };
                spawn("console-in", move || reader.run(keys))?;
            }
            ConsoleKind::File(path) => {
                let file =
                    File::create(path).map_err(|e| failed(&format!("{} cannot be created", path.display()), e))?;
                console.write_to(Box::new(FilePort(file)), &events)?;
            }
            ConsoleKind::Socket(path) => {
                let listener = listen(path)?;
                console.socket = Some(path.clone());
                let client = Arc::new(Mutex::new(Client::default()));
                console.write_to(Box::new(SocketPort(Arc::clone(&client))), &events)?;
                let input = Arc::clone(&line.input);
                spawn("console-in", move || serve(&listener, &client, &input))?;
            }
            ConsoleKind::Pty => {
                let (master, slave, name) = open_pty().map_err(|e| failed("no pseudo-terminal", e.into()))?;
                terminal::message(&format!("vmm: console on {name}"));
                let reading = master.try_clone().map_err(|e| failed("pseudo-terminal", e))?;
                console.write_to(Box::new(PtyPort { master, _slave: slave, attended: true }), &events)?;
                let input = Arc::clone(&line.input);
                spawn("console-in", move || pump(File::from(reading), &input))?;
            }
            ConsoleKind::None => line.output.close(),
        }
        Ok(console)
    }

    fn write_to(&self, port: Box<dyn Port>, events: &EventSink) -> Result<(), Failure> {
        let events = Arc::clone(events);
        self.line
            .output
            .spawn_writer(port, move |error| events(ConsoleEvent::OutputFailed(error)))
            .map(drop)
            .map_err(|e| Failure::backend(format!("no thread for the console: {e}")))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.line.output.flush(Duration::from_secs(2));
        self.line.output.close();
        self.line.input.close();
        if let Some(path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
        .map_err(|e| Failure::backend(format!("no thread for the console: {e}")))
}

/// Standard output, written without a buffer of our own.
struct Stdout;

impl Port for Stdout {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let fd = rustix::stdio::stdout();
        while !bytes.is_empty() {
            match rustix::io::write(fd, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // Somebody made the terminal non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None).map(|_| ())?
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

struct FilePort(File);

impl Port for FilePort {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// Reads standard input; with `keys` the escape keys and the monitor work.
struct StdinReader {
    input: Arc<InputQueue>,
    output: Arc<OutputQueue>,
    events: EventSink,
}

impl StdinReader {
    fn run(self, keys: bool) {
        let mut buffer = [0u8; 4096];
        let mut splitter = Keys::default();
        let mut monitor: Option<LineEditor> = None;
        loop {
            let bytes = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => return, // the guest goes on without input
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {
                    let fd = rustix::stdio::stdin();
                    if rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            };
            if !keys {
                self.input.push(bytes, WhenFull::Wait);
                continue;
            }
            let mut for_guest = Vec::with_capacity(bytes.len());
            for item in bytes.iter().filter_map(|&byte| splitter.feed(byte)) {
                match (item, &mut monitor) {
                    (Item::Byte(byte), None) => for_guest.push(byte),
                    (Item::Byte(byte), Some(editor)) => self.monitor_key(editor, byte),
                    (Item::Escape(Escape::Monitor), focus) => {
                        let opens = focus.is_none();
                        *focus = opens.then(LineEditor::default);
                        let banner = if opens {
                            format!("\r\nvmm monitor; help lists commands, Ctrl-A c leaves\r\n{PROMPT}")
                        } else {
                            "\r\n".into()
                        };
                        self.output.push(banner.as_bytes());
                    }
                    (Item::Escape(Escape::Break), _) => {
                        // What was typed before the break goes before it.
                        self.input.push(&std::mem::take(&mut for_guest), WhenFull::Drop);
                        self.input.push_break();
                    }
                    (Item::Escape(key), _) => (self.events)(ConsoleEvent::Key(key)),
                }
            }
            self.input.push(&for_guest, WhenFull::Drop);
        }
    }

    fn monitor_key(&self, editor: &mut LineEditor, byte: u8) {
        let typed = editor.feed(byte);
        self.output.push(&typed.echo);
        if let Some(line) = typed.line {
            (self.events)(ConsoleEvent::MonitorLine(line));
        }
    }
}

/// Feeds everything that `source` gives to the guest, until it ends.
fn pump(mut source: impl Read, input: &InputQueue) {
    let mut buffer = [0u8; 4096];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => input.push(buffer.get(..count).unwrap_or_default(), WhenFull::Wait),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How much output a client gets that attaches late.
const BACKLOG: usize = 64 << 10;

/// The client of a socket console and what it missed.
#[derive(Default)]
struct Client {
    stream: Option<UnixStream>,
    backlog: Vec<u8>,
}

struct SocketPort(Arc<Mutex<Client>>);

impl Port for SocketPort {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        client.backlog.extend_from_slice(bytes);
        let excess = client.backlog.len().saturating_sub(BACKLOG);
        client.backlog.drain(..excess);
        if let Some(stream) = &mut client.stream
            && stream.write_all(bytes).is_err()
        {
            client.stream = None; // gone, or it does not read
        }
        Ok(())
    }
}

/// Accepts one client after the other and reads its input.
fn serve(listener: &UnixListener, client: &Mutex<Client>, input: &InputQueue) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else { return };
        // A client that does not read loses the connection, the guest does not wait for it.
        let reader = stream.set_write_timeout(Some(Duration::from_secs(2))).and_then(|()| stream.try_clone());
        let Ok(reader) = reader else { continue };
        {
            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
            if stream.write_all(&client.backlog).is_err() {
                continue;
            }
            client.stream = Some(stream);
        }
        pump(reader, input);
        client.lock().unwrap_or_else(PoisonError::into_inner).stream = None;
    }
}

/// Listens at `path`; a socket that a dead program left behind is replaced.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let at = |error: &io::Error| {
        Failure::backend(format!("--console socket:{}: cannot listen there: {error}", path.display()))
    };
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => {
                    return Err(Failure::backend(format!(
                        "--console socket:{}: in use (by another vmm, or no socket); give another path",
                        path.display()
                    )));
                }
            }
            fs::remove_file(path).map_err(|e| at(&e))?;
            UnixListener::bind(path).map_err(|e| at(&e))
        }
        other => other.map_err(|e| at(&e)),
    }
}

fn open_pty() -> rustix::io::Result<(OwnedFd, OwnedFd, String)> {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::OpenptFlags;
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    // The guest does echo and line editing. Kept open, so that reading the master does not fail while nobody is attached.
    let slave = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    Ok((master, slave, name.to_string_lossy().into_owned()))
}

/// Writes to a pseudo-terminal; when nobody reads it, output is lost instead of stopping the guest.
struct PtyPort {
    master: OwnedFd,
    _slave: OwnedFd,
    attended: bool,
}

impl Port for PtyPort {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let limit = Timespec { tv_sec: 0, tv_nsec: if self.attended { 500_000_000 } else { 0 } };
            let fd = self.master.as_fd();
            self.attended = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&limit))? > 0;
            if !self.attended {
                return Ok(());
            }
            // A terminal's buffer takes less than 4 KiB; a small write does not block once it polls as writable.
            let count = rustix::io::write(&self.master, bytes.get(..bytes.len().min(256)).unwrap_or_default())?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn open(kind: ConsoleKind) -> (Console, SerialLine) {
        let line = SerialLine::default();
        (Console::open(&kind, &line, Arc::new(|_| ())).unwrap(), line)
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vmm-console-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_file_has_all_output_when_the_console_is_dropped() {
        let path = scratch("file");
        let (console, line) = open(ConsoleKind::File(path.clone()));
        line.output.push(b"hello\n");
        drop(console);
        assert_eq!(fs::read(&path).unwrap(), b"hello\n");
        fs::remove_file(path).unwrap();
    }

    struct Heard(Mutex<mpsc::Sender<Vec<u8>>>);
    impl super::super::input::SerialInput for Heard {
        fn receive(&self, bytes: &[u8]) -> usize {
            self.0.lock().unwrap().send(bytes.to_vec()).unwrap();
            bytes.len()
        }
        fn send_break(&self) {}
    }

    #[test]
    fn a_late_socket_client_gets_the_output_so_far_and_can_type() {
        let path = scratch("socket");
        let (console, line) = open(ConsoleKind::Socket(path.clone()));
        line.output.push(b"early ");
        assert!(line.output.flush(Duration::from_secs(5)));
        let mut stream = UnixStream::connect(&path).unwrap();
        let mut got = [0u8; 6];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"early ");
        line.output.push(b"late");
        let mut got = [0u8; 4];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"late");
        let (sender, receiver) = mpsc::channel();
        line.input.spawn_feeder(Arc::new(Heard(Mutex::new(sender)))).unwrap();
        stream.write_all(b"ls").unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)).unwrap(), b"ls");
        // A second machine must not take the path of a living one.
        let error = Console::open(&ConsoleKind::Socket(path.clone()), &line, Arc::new(|_| ())).err().unwrap();
        assert!(error.message.contains("in use"), "{error}");
        drop(console);
        assert!(!path.exists());
    }

    #[test]
    fn a_pty_carries_bytes_and_does_not_hold_the_guest_when_nobody_reads() {
        let (master, slave, _name) = open_pty().unwrap();
        let mut reader = File::from(slave.try_clone().unwrap());
        let mut port = PtyPort { master, _slave: slave, attended: true };
        port.write_all(b"hi").unwrap();
        let mut got = [0u8; 2];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hi");
        let start = std::time::Instant::now();
        for _ in 0..100 {
            port.write_all(&[b'x'; 1000]).unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
