//! Listening unix sockets of the host.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

/// A socket with a path, which goes away with it.
pub(crate) struct Listener {
    path: PathBuf,
    socket: OwnedFd,
}

fn make() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Takes away a socket that nobody listens at any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && connect(&make()?, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Listener {
    /// Listens at `path`, where nobody else may listen; `backlog` may wait to be accepted.
    pub(crate) fn new(path: &Path, backlog: i32) -> io::Result<Listener> {
        remove_stale(path)?;
        let socket = make()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let listener = Listener { path: path.to_owned(), socket };
        listen(&listener.socket, backlog)?;
        Ok(listener)
    }

    /// The next one that came, if somebody did. Reading and writing do not wait.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A connection to who listens at `path`; it does not wait.
pub(crate) fn try_connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = make()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}
