//! Addresses to connect from: there are more connections than an address has ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::time::Duration;

use super::{Connection, Error};

/// Of 127.0.0.0/8, every address of which is this machine's own: 127.0.0.2 and so on.
const MOST: u8 = 250;

/// Any address, until its ports run out; then, to a broker on the loopback interface, one after another.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    current: u8,
}

impl Sources {
    /// Connects, and asks what the broker serves.
    ///
    /// # Errors
    /// If there is no broker.
    pub fn open(&mut self, address: &str, timeout: Duration) -> Result<Connection, Error> {
        let mut connection = self.dial(address, timeout)?;
        connection.ask_versions(timeout)?;
        Ok(connection)
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::dial`].
    pub fn dial(&mut self, address: &str, timeout: Duration) -> Result<Connection, Error> {
        loop {
            let from =
                (self.current > 0).then(|| Ipv4Addr::new(127, 0, 0, 1 + self.current).into());
            match Connection::dial(address, from, timeout) {
                Err(Error::Connect { source, .. })
                    if has_no_port(&source) && self.current < MOST && is_loopback(address) =>
                {
                    self.current += 1;
                }
                other => return other,
            }
        }
    }
}

/// `connect` says the one, and `bind` the other.
fn has_no_port(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable};
    matches!(error.kind(), AddrInUse | AddrNotAvailable)
}

fn is_loopback(address: &str) -> bool {
    let loopback = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_loopback());
    let resolved = address.to_socket_addrs();
    resolved.is_ok_and(|mut all| all.all(|address| loopback(address.ip())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_source_is_where_the_connection_comes_from() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        for (current, from) in [(0, [127, 0, 0, 1]), (6, [127, 0, 0, 7])] {
            let mut sources = Sources { current };
            let _connection = sources.dial(&address, Duration::from_secs(10)).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::from(from));
        }
    }

    #[test]
    fn only_loopback_has_other_addresses() {
        assert!(is_loopback("127.0.0.1:9092"));
        assert!(!is_loopback("192.0.2.1:9092") && !is_loopback("[::1]:9092"));
    }
}
