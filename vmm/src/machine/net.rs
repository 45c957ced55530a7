//! The network cards of a machine: from options to back ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use devices::net::Backend;
use devices::net::pcap::{Capture, Captured};
use devices::net::socket::SocketPair;
use devices::net::user::{Forward, UserConfig, UserError, UserNet};
use devices::net::wire::Mac;
use devices::virtio::VirtioNet;
use devices::virtio::net::NetOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::boot::fill_random;
use crate::exit::{Failure, explain};
use crate::tap;

/// The address of the first card of a user network; further cards count up.
const FIRST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// What a card is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cable {
    /// A network in this process.
    User {
        /// The guest may reach the host.
        allow_host: bool,
        /// Ports of the host that lead to the guest.
        forwards: Vec<Forward>,
        /// Where questions for addresses go; `None`: to the host's name servers.
        dns: Option<SocketAddr>,
    },
    /// The host's tap device of this name.
    Tap(String),
    /// An open tap device that was passed.
    TapFd(i32),
    /// Another machine, by a unix socket.
    Socket(PathBuf),
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// What it is connected to.
    pub cable: Cable,
    /// Its address; `None`: one is chosen.
    pub mac: Option<Mac>,
    /// Greatest packet; `None`: 1500.
    pub mtu: Option<u16>,
    /// Where what it sends and receives is written to.
    pub pcap: Option<PathBuf>,
    /// Checksums and segmentation are left to the other side.
    pub offloads: bool,
}

impl NetConfig {
    /// Opens what the card needs on the host; it is the one with number `index` of the machine.
    pub fn open(&self, index: usize) -> Result<VirtioNet, Failure> {
        let mac = match (self.mac, &self.cable) {
            (Some(mac), _) => mac,
            (None, Cable::User { .. }) => numbered(index),
            // Two machines on one cable need different addresses.
            (None, _) => random()?,
        };
        let mut backend = self.backend(mac)?;
        if let Some(path) = &self.pcap {
            let capture =
                Capture::create(path).map_err(|e| Failure::usage(format!("--net: pcap={}: {e}", path.display())))?;
            backend = Box::new(Captured::new(capture, backend));
        }
        Ok(VirtioNet::new(backend, NetOptions { mac, mtu: self.mtu, offloads: self.offloads }))
    }

    fn backend(&self, mac: Mac) -> Result<Box<dyn Backend>, Failure> {
        Ok(match &self.cable {
            Cable::User { allow_host, forwards, dns } => {
                allow_many_files();
                let mut config = UserConfig::new(mac);
                (config.allow_host, config.forwards, config.dns) = (*allow_host, forwards.clone(), *dns);
                config.mtu = self.mtu.unwrap_or(config.mtu);
                Box::new(UserNet::new(config).map_err(|e| match e {
                    UserError::Listen { .. } => Failure::usage(format!("--net: {}", explain(&e))),
                    UserError::Io(_) => Failure::backend(explain(&e)),
                })?)
            }
            Cable::Tap(name) => Box::new(tap::open(name).map_err(|e| {
                Failure::usage(format!(
                    "--net tap:{name}: {e}; as root: ip tuntap add dev {name} mode tap user $USER vnet_hdr, ip link set {name} up"
                ))
            })?),
            Cable::TapFd(fd) => {
                Box::new(tap::from_fd(*fd).map_err(|e| Failure::usage(format!("--net fd:{fd}: {e}")))?)
            }
            Cable::Socket(path) => Box::new(
                SocketPair::open(path)
                    .map_err(|e| Failure::usage(format!("--net socket:{}: {e}", path.display())))?,
            ),
        })
    }
}

fn numbered(index: usize) -> Mac {
    let mut mac = FIRST_MAC;
    // At most as many cards as there are slots.
    mac[5] = mac[5].wrapping_add(index as u8);
    Mac(mac)
}

fn random() -> Result<Mac, Failure> {
    let mut own = [0; 3];
    if !fill_random(&mut own) {
        return Err(Failure::backend("--net: the host has no random generator; give the card an address: mac=MAC"));
    }
    let ([a, b, c, ..], [d, e, f]) = (FIRST_MAC, own);
    Ok(Mac([a, b, c, d, e, f]))
}

/// Each connection of the guest is a file here: takes as many as the host allows.
pub(super) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // Without more there are as many connections as there are files.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
