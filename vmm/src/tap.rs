//! Tap devices: opening one, and telling the host's kernel what the guest takes. The frames are the business of
//! [`devices::net::tap`].
#![expect(unsafe_code, reason = "ioctls of /dev/net/tun, and files that were passed by number")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use devices::net::Accepts;
use devices::net::packet::HEADER;
use devices::net::tap::Tap;

const DEVICE: &str = "/dev/net/tun";
const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Opens the tap device `name`, which is made if it does not exist and this process may make it.
pub fn open(name: &str) -> io::Result<Tap> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    let mut request = request();
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains(['\0', '/', ' ']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a network interface"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes a struct ifreq, which `request` is, for the duration of the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    finish(file)
}

/// Takes over the open tap device with number `fd`, which whoever started this process has passed.
pub fn from_fd(fd: RawFd) -> io::Result<Tap> {
    let mut request = request();
    // SAFETY: TUNGETIFF writes a struct ifreq, which `request` is; a number that is no tap device is an error.
    checked(unsafe { libc::ioctl(fd, libc::TUNGETIFF as _, &raw mut request) })?;
    // SAFETY: the kernel has just filled the flags, and any bits are a short.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if flags & FLAGS != FLAGS {
        let message = "it has to be a tap device with IFF_NO_PI and IFF_VNET_HDR";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: fcntl on a number that is an open tap device, as has just been seen, changes its flags only.
    checked(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
    // SAFETY: the number was passed to this process for its use, and each is used once: the command line names it.
    finish(unsafe { File::from_raw_fd(fd) })
}

fn request() -> libc::ifreq {
    // SAFETY: a struct ifreq is a name and a union of plain numbers and addresses: zeros are a value of it.
    unsafe { std::mem::zeroed() }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn finish(file: File) -> io::Result<Tap> {
    let size = HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an int for the duration of the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const size) })?;
    let file = Arc::new(file);
    let same = file.try_clone()?;
    let set_offload = move |accepts: Accepts| {
        let bit = |on: bool, bit: libc::c_uint| if on { bit } else { 0 };
        let mut bits = bit(accepts.checksum, libc::TUN_F_CSUM);
        if accepts.checksum {
            bits |= bit(accepts.tso4, libc::TUN_F_TSO4) | bit(accepts.tso6, libc::TUN_F_TSO6);
            bits |= bit(accepts.ecn && (accepts.tso4 || accepts.tso6), libc::TUN_F_TSO_ECN);
        }
        // SAFETY: TUNSETOFFLOAD takes a number by value; the file is the tap device.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(bits)) })
    };
    Tap::new(same, Box::new(set_offload))
}
