//! How SeaweedFS writes addresses (`weed/pb/server_address.go`).

use std::fmt;
use std::str::FromStr;

/// SeaweedFS's servers serve gRPC on the port so far above that of HTTP, if nothing else is said.
const GRPC_ABOVE_HTTP: u16 = 10_000;

/// A server with a port for HTTP and one for gRPC: `host:port`, or `host:port.grpcPort`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress {
    /// A host name or an IP address; IPv6 in brackets.
    pub host: String,
    pub port: u16,
    pub grpc_port: u16,
}

impl ServerAddress {
    /// A broker's address: it has one port, for gRPC.
    pub fn of_broker(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(text))?;
        let port = parse_port(port).ok_or_else(|| invalid(text))?;
        Ok(ServerAddress {
            host: parse_host(host).ok_or_else(|| invalid(text))?,
            port,
            grpc_port: port,
        })
    }

    pub(super) fn http(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) fn grpc(&self) -> String {
        format!("{}:{}", self.host, self.grpc_port)
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, ports) = text.rsplit_once(':').ok_or_else(|| invalid(text))?;
        let (port, grpc_port) = match ports.split_once('.') {
            Some((port, grpc)) => (parse_port(port), parse_port(grpc)),
            None => {
                let port = parse_port(ports);
                (port, port.and_then(|p| p.checked_add(GRPC_ABOVE_HTTP)))
            }
        };
        Ok(ServerAddress {
            host: parse_host(host).ok_or_else(|| invalid(text))?,
            port: port.ok_or_else(|| invalid(text))?,
            grpc_port: grpc_port.ok_or_else(|| invalid(text))?,
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        match self.port.checked_add(GRPC_ABOVE_HTTP) == Some(self.grpc_port)
            || self.port == self.grpc_port
        {
            true => Ok(()),
            false => write!(f, ".{}", self.grpc_port),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no address of a SeaweedFS server: give HOST:PORT (gRPC is 10000 above) or HOST:PORT.GRPCPORT"
)]
pub struct AddressError(String);

fn invalid(text: &str) -> AddressError {
    AddressError(text.chars().take(100).collect())
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port != 0)
}

/// It becomes part of a URL, so nothing but a host may pass.
fn parse_host(text: &str) -> Option<String> {
    let name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let good = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.len() <= 253 && text.bytes().all(name),
    };
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, u16, u16)> {
        let address: ServerAddress = text.parse().ok()?;
        Some((address.host, address.port, address.grpc_port))
    }

    #[test]
    fn an_address_tells_its_grpc_port_or_means_that_10000_above() {
        let v4 = |port, grpc| Some(("127.0.0.1".to_owned(), port, grpc));
        assert_eq!(parsed("127.0.0.1:8888"), v4(8888, 18888));
        assert_eq!(parsed("127.0.0.1:8888.17"), v4(8888, 17));
        assert_eq!(
            parsed("[::1]:9333"),
            Some(("[::1]".to_owned(), 9333, 19333))
        );
        let broker = ServerAddress::of_broker("mq-1.example:17777").expect("an address");
        assert_eq!((broker.port, broker.grpc_port), (17777, 17777));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "", "a", ":1", "a:", "a:0", "a:+1", "a:65536", "a:60000", "a:1.", "a:1.0", "a/b:1",
            "a@b:1", "[::1:1", "[a]:1", "a b:1", "a:1.2.3",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["127.0.0.1:8888", "[::1]:8888.9999", "filer:1.2"] {
            let address: ServerAddress = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
        }
    }
}
