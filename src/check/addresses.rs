//! The addresses that the gateway would listen on: whether they are free.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::{Item, State};
use crate::config::{Admin, Config, HostPort, Routing, shard_port};

pub(super) fn check(config: &Config) -> Vec<Item> {
    let shared = config
        .listen
        .iter()
        .map(|address| ("listen", address.clone()));
    let own = config
        .listen
        .iter()
        .flat_map(|address| own_ports(config, address));
    let admin = match &config.admin {
        Admin::Off => None,
        Admin::At(address) => Some(("admin", address.clone())),
    };
    let own = own.map(|address| ("listen (shard)", address));
    let all = shared.chain(own).chain(admin);
    all.map(|(what, address)| judge(what, &address, try_bind(&address)))
        .collect()
}

/// The ports of the shards, where each has one.
fn own_ports(config: &Config, address: &HostPort) -> Vec<HostPort> {
    if config.routing != Routing::PerCore || address.port == 0 {
        return Vec::new();
    }
    let ports = (0..config.shards).filter_map(|shard| shard_port(address.port, shard));
    let with_port = |port| HostPort {
        host: address.host.clone(),
        port,
    };
    ports.map(with_port).collect()
}

fn try_bind(address: &HostPort) -> io::Result<()> {
    let bind = |address: SocketAddr| TcpListener::bind(address).map(drop);
    address.socket_addrs()?.into_iter().try_for_each(bind)
}

fn judge(what: &str, address: &HostPort, bound: io::Result<()>) -> Item {
    let item = |found: &str| Item::ok(what, format!("{address}, {found}"), "free");
    match bound {
        Ok(()) => item("free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => item("in use").but(
            State::Fail,
            true,
            "stop the process that listens there, or choose another address",
        ),
        Err(error) => item(&error.to_string()).but(
            State::Fail,
            true,
            "choose an address of this host, and a port that the user may take",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tried() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut address = HostPort {
            host: "127.0.0.1".to_owned(),
            port: taken.local_addr().expect("an address").port(),
        };
        let state = |address: &HostPort| judge("listen", address, try_bind(address)).state;
        assert_eq!(state(&address), State::Fail);
        address.port = 0;
        assert_eq!(state(&address), State::Ok);
        // RFC 5737: no host has it.
        address.host = "192.0.2.1".to_owned();
        assert_eq!(state(&address), State::Fail);
    }
}
