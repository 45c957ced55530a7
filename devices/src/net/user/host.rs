//! Sockets of the host, none of which blocks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, ipproto, listen, socket_with, sockopt,
};

use crate::net::wire::protocol;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Begins a TCP connection. True if it is made already.
pub(super) fn connect_tcp(to: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let socket = socket_with(family(to), SocketType::STREAM, FLAGS, None)?;
    tune(&socket);
    match connect(&socket, &to) {
        Ok(()) => Ok((socket, true)),
        Err(rustix::io::Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error.into()),
    }
}

/// What every connection's socket gets.
pub(super) fn tune(socket: &OwnedFd) {
    // The guest's own kernel decides what is sent together.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Has closing `socket` reset its connection.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A socket that refuses is closed in the ordinary way.
    let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

/// A socket for datagrams to one place.
pub(super) fn connect_datagram(to: SocketAddr, number: u8) -> io::Result<OwnedFd> {
    let kind: Option<Protocol> = match number {
        protocol::ICMP => Some(ipproto::ICMP),
        protocol::ICMPV6 => Some(ipproto::ICMPV6),
        _ => None,
    };
    let socket = socket_with(family(to), SocketType::DGRAM, FLAGS, kind)?;
    connect(&socket, &to)?;
    Ok(socket)
}

/// Whether this process may send echo requests.
pub(super) fn may_ping() -> bool {
    socket_with(AddressFamily::INET, SocketType::DGRAM, FLAGS, Some(ipproto::ICMP)).is_ok()
}

/// A socket that takes connections or datagrams at `at`.
pub(super) fn listen_at(at: SocketAddr, tcp: bool) -> io::Result<OwnedFd> {
    let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family(at), kind, FLAGS, None)?;
    if tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if at.is_ipv6() {
        // Its own version only: the other one can be asked for beside it.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &at)?;
    if tcp {
        listen(&socket, 128)?;
    }
    Ok(socket)
}
