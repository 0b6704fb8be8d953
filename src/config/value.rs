//! The types of configuration values: from text, checked, and back to TOML.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::layers::{Host, Setting, nearest, quote};
use super::option::{Form, Unit};
use crate::bridge::ServerAddress;
use crate::group::assignor::Assignor;
use crate::logging::Filter;

/// The port of Kafka, for addresses given without one.
pub(crate) const DEFAULT_PORT: u16 = 9092;
/// As [`DEFAULT_PORT`], of the admin pages.
const ADMIN_PORT: u16 = 9644;
/// Each address is a listening socket on every shard.
const MAX_LISTEN_ADDRESSES: usize = 16;
/// A cluster id goes out in every Metadata response.
const MAX_ID_LEN: usize = 64;
const NO_LIMIT: &str = "-1";
/// RFC 1035, section 2.3.4: 255 octets on the wire, 253 as text.
const MAX_HOST_NAME_LEN: usize = 253;

/// A type that an option can have.
pub(super) trait Value: Sized {
    /// Reads the value; the error is the reason, without the option's name.
    fn parse(text: &str, form: &Form) -> Result<Self, String>;

    /// The value as TOML that `parse` reads back.
    fn toml(&self) -> toml::Value;
}

/// Options that are one of a few words.
macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $name:ident {
        $($(#[doc = $variant_doc:literal])+ $variant:ident = $word:literal,)+
    })+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $variant_doc])+ $variant,)+ }

        impl $name {
            /// The words, as they are configured.
            pub const NAMES: &[&str] = &[$($word),+];
        }

        impl Value for $name {
            fn parse(text: &str, _: &Form) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(unknown_word(text, $name::NAMES)),
                }
            }

            fn toml(&self) -> toml::Value {
                match self { $($name::$variant => $word.into(),)+ }
            }
        }
    )+ };
}

choices! {
    /// Where clients send the requests for a partition.
    Routing {
        /// One port for all: what arrives on a shard that does not own the partition is passed on.
        Shared = "shared",
        /// Each shard is a broker of its own to clients, with a port of its own behind the shared one.
        PerCore = "per-core",
    }
    /// Who writes a topic's log in SeaweedFS.
    SeaweedMqPath {
        /// The gateway itself, and it alone.
        Segments = "segments",
        /// SeaweedMQ's brokers, for the gateway and whoever else publishes to them.
        Broker = "broker",
    }
    /// Where partitions are stored.
    Store {
        /// The embedded log on local disk.
        Local = "local",
        /// SeaweedFS, in the layout of SeaweedMQ.
        SeaweedMq = "seaweedmq",
    }

    /// What an acknowledgement with acks=all means.
    Flush {
        /// The data is on the disk: synced, as a group commit.
        Durable = "durable",
        /// The data is handed to the operating system, as Kafka does by default.
        Os = "os",
    }

    /// Whether shards are bound to CPUs.
    Pin {
        /// Bound if there is a CPU for each shard.
        Auto = "auto",
        /// Bound; the start fails if that cannot be.
        On = "on",
        /// Not bound.
        Off = "off",
    }

    /// How batches are compressed in the log.
    CompressionType {
        /// Not at all.
        Uncompressed = "uncompressed",
        /// With Zstandard.
        Zstd = "zstd",
        /// With LZ4.
        Lz4 = "lz4",
        /// With Snappy.
        Snappy = "snappy",
        /// With gzip.
        Gzip = "gzip",
        /// As their producers did it.
        Producer = "producer",
    }

    /// How much of a produced batch is looked at before it is taken.
    RecordValidation {
        /// Every record, inflated if need be.
        Full = "full",
        /// The batch's header and checksum.
        Header = "header",
    }

    /// Which way groups with members go over from one protocol to the other.
    MigrationPolicy {
        /// Both ways.
        Bidirectional = "bidirectional",
        /// A classic group becomes one of the consumer protocol when a member of that protocol joins.
        Upgrade = "upgrade",
        /// A group of the consumer protocol becomes a classic one when all of its members are classic.
        Downgrade = "downgrade",
        /// None.
        Disabled = "disabled",
    }

    /// Form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

impl Value for bool {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        text.parse()
            .map_err(|_| unknown_word(text, &["true", "false"]))
    }

    fn toml(&self) -> toml::Value {
        (*self).into()
    }
}

fn unknown_word(text: &str, words: &[&str]) -> String {
    let nearest = nearest(text, words.iter().copied());
    format!(
        "unknown value {}; the nearest is {nearest} (known: {})",
        quote(text),
        words.join(", ")
    )
}

/// Numbers; the bounds of their rows lie within their types.
macro_rules! numbers {
    ($($type:ty)+) => { $(
        impl Value for $type {
            fn parse(text: &str, form: &Form) -> Result<Self, String> {
                Self::try_from(number(text, form)?).map_err(|error| error.to_string())
            }

            fn toml(&self) -> toml::Value {
                toml_number(*self)
            }
        }
    )+ };
}

numbers! { i32 u64 usize }

/// A level of the codec that its row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub i32);

impl Value for Level {
    fn parse(text: &str, form: &Form) -> Result<Self, String> {
        let level = text
            .parse()
            .map_err(|_| format!("{} is not a whole number", quote(text)))?;
        match form {
            Form::Level(codec) if !codec.levels().is_some_and(|levels| levels.has(level)) => Err(
                format!("{} is out of bounds ({})", quote(text), form.accepts()),
            ),
            _ => Ok(Level(level)),
        }
    }

    fn toml(&self) -> toml::Value {
        self.0.into()
    }
}

impl Value for Duration {
    fn parse(text: &str, form: &Form) -> Result<Self, String> {
        number(text, form).map(Duration::from_millis)
    }

    fn toml(&self) -> toml::Value {
        toml_number(self.as_millis())
    }
}

/// Limits that may be left open: -1, as in Kafka.
macro_rules! limits {
    ($($type:ty)+) => { $(
        impl Value for Option<$type> {
            fn parse(text: &str, form: &Form) -> Result<Self, String> {
                match text {
                    NO_LIMIT => Ok(None),
                    _ => <$type>::parse(text, form).map(Some),
                }
            }

            fn toml(&self) -> toml::Value {
                self.as_ref().map_or((-1).into(), Value::toml)
            }
        }
    )+ };
}

limits! { u64 Duration }

/// No row's bounds reach beyond TOML's integers, which are of 64 bits with a sign.
fn toml_number(number: impl TryInto<i64>) -> toml::Value {
    number.try_into().unwrap_or(i64::MAX).into()
}

/// A number with an optional suffix, within the bounds of its row.
fn number(text: &str, form: &Form) -> Result<u64, String> {
    let (unit, min, max) = match *form {
        Form::Number { unit, min, max } => (unit, min, max),
        _ => (Unit::Count, 0, u64::MAX),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    if digits.is_empty() {
        return Err(format!("{} is not {}", quote(text), unit.example()));
    }
    let factor = factor(suffix.trim_start(), unit)?;
    // Digits that do not fit into 64 bits are above every bound.
    let number = digits.parse().ok().and_then(|n: u64| n.checked_mul(factor));
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!(
            "{} is out of bounds ({})",
            quote(text),
            form.accepts()
        )),
    }
}

fn factor(suffix: &str, unit: Unit) -> Result<u64, String> {
    if suffix.is_empty() {
        return Ok(1);
    }
    let known = unit.suffixes();
    if let Some((_, factor)) = known.iter().find(|(name, _)| *name == suffix) {
        return Ok(*factor);
    }
    if known.is_empty() {
        return Err(format!(
            "{} after the number: no unit is known here",
            quote(suffix)
        ));
    }
    let nearest = nearest(suffix, known.iter().map(|(name, _)| *name));
    Err(format!(
        "unknown unit {}; the nearest is {nearest}",
        quote(suffix)
    ))
}

impl Value for PathBuf {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        match text {
            "" => Err("a path cannot be empty".to_owned()),
            path => Ok(path.into()),
        }
    }

    fn toml(&self) -> toml::Value {
        // It was made from a `str`, so nothing is lost.
        self.to_string_lossy().into_owned().into()
    }
}

/// A file that may be left out: empty means that there is none.
impl Value for Option<PathBuf> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn toml(&self) -> toml::Value {
        let path = self.clone().unwrap_or_default();
        path.to_string_lossy().into_owned().into()
    }
}

/// An id that may be left out: empty means that nobody gave one.
impl Value for Option<String> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.len() > MAX_ID_LEN || !text.chars().all(known) {
            return Err(format!(
                "{} is not an id of at most {MAX_ID_LEN} letters, digits, '-', '_' and '.'",
                quote(text)
            ));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn toml(&self) -> toml::Value {
        self.clone().unwrap_or_default().into()
    }
}

/// How often volumes are stored beside the first copy: in other data centers, on other racks, on other
/// servers of the rack; a digit each (`weed/storage/super_block/replica_placement.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication(pub String);

/// SeaweedFS keeps it in a byte.
const REPLICATION_MAX: u16 = 255;

/// It may be left out: empty means that SeaweedFS's own is kept.
impl Value for Option<Replication> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        let fits = text.parse().is_ok_and(|n: u16| n <= REPLICATION_MAX);
        match text {
            "" => Ok(None),
            _ if digits && fits => Ok(Some(Replication(text.to_owned()))),
            _ => Err(format!(
                "{} is not a replication of SeaweedFS (000, 001, 010, 100, 200 and the like)",
                quote(text)
            )),
        }
    }

    fn toml(&self) -> toml::Value {
        let text = self.as_ref().map_or("", |replication| &replication.0);
        text.into()
    }
}

impl Value for Filter {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        Filter::parse(text)
    }

    fn toml(&self) -> toml::Value {
        self.as_str().into()
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// An IP address (IPv6 without brackets) or a host name.
    pub host: String,
    /// 0 lets the operating system choose.
    pub port: u16,
}

impl HostPort {
    /// The socket addresses behind it. A name is looked up and may have several.
    ///
    /// # Errors
    /// The resolver's, if a name is not known.
    pub fn socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// Whether it stands for every address of the machine (0.0.0.0, ::).
    pub fn is_unspecified(&self) -> bool {
        is_unspecified(&self.host)
    }

    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = split_host_port(text)?;
        Ok(HostPort {
            host,
            port: port.unwrap_or(default_port),
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

impl Value for Vec<HostPort> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let mut listen = Vec::new();
        for part in text.split(',') {
            let address = HostPort::parse(part.trim(), DEFAULT_PORT)?;
            if listen.contains(&address) {
                return Err(format!("{address} is given twice"));
            }
            if listen.len() == MAX_LISTEN_ADDRESSES {
                return Err(format!("more than {MAX_LISTEN_ADDRESSES} addresses"));
            }
            listen.push(address);
        }
        Ok(listen)
    }

    fn toml(&self) -> toml::Value {
        self.iter()
            .map(HostPort::to_string)
            .collect::<Vec<_>>()
            .into()
    }
}

/// In the order of preference.
impl Value for Vec<Assignor> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let mut assignors = Vec::new();
        for name in text.split(',').map(str::trim) {
            let known = Assignor::ALL.map(Assignor::name);
            let assignor = Assignor::of(name).ok_or_else(|| unknown_word(name, &known))?;
            if assignors.contains(&assignor) {
                return Err(format!("{name} is given twice"));
            }
            assignors.push(assignor);
        }
        Ok(assignors)
    }

    fn toml(&self) -> toml::Value {
        let names: Vec<_> = self.iter().map(|assignor| assignor.name()).collect();
        names.join(",").into()
    }
}

impl Value for Vec<ServerAddress> {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let address = |part: &str| ServerAddress::from_str(part.trim());
        let all: Result<Vec<_>, _> = text.split(',').map(address).collect();
        all.map_err(|error| error.to_string())
    }

    fn toml(&self) -> toml::Value {
        self.iter()
            .map(ServerAddress::to_string)
            .collect::<Vec<_>>()
            .into()
    }
}

/// Where the admin pages are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// On this address.
    At(HostPort),
}

impl Value for Admin {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        match text {
            "off" => Ok(Admin::Off),
            _ => HostPort::parse(text, ADMIN_PORT).map(Admin::At),
        }
    }

    fn toml(&self) -> toml::Value {
        match self {
            Admin::Off => "off".into(),
            Admin::At(address) => address.to_string().into(),
        }
    }
}

/// The own port of a shard, behind the one that all share. A free one stays a free one.
pub fn shard_port(shared: u16, shard: usize) -> Option<u16> {
    match shared {
        0 => Some(0),
        _ => shared.checked_add(u16::try_from(shard).ok()?.checked_add(1)?),
    }
}

/// The address that clients are told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// An IP address (IPv6 without brackets) or a host name.
    pub host: String,
    /// None: the port that is listened on, which is known once the socket is bound.
    pub port: Option<u16>,
}

impl Advertise {
    /// The address to give to clients, `bound` being the port that is listened on.
    pub fn with_port(&self, bound: u16) -> HostPort {
        HostPort {
            host: self.host.clone(),
            port: self.port.unwrap_or(bound),
        }
    }

    /// The address of a shard, `bound` being its own port. Where the port is given, those of the shards
    /// follow it as they follow the one that is listened on. `None`: there are not that many ports.
    pub fn of_shard(&self, shard: usize, bound: u16) -> Option<HostPort> {
        let port = match self.port {
            Some(port) => shard_port(port, shard)?,
            None => bound,
        };
        Some(HostPort {
            host: self.host.clone(),
            port,
        })
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Value for Advertise {
    fn parse(text: &str, _: &Form) -> Result<Self, String> {
        let (host, port) = split_host_port(text)?;
        if is_unspecified(&host) || port == Some(0) {
            return Err(format!(
                "{} is no address that a client can connect to",
                quote(text)
            ));
        }
        Ok(Advertise { host, port })
    }

    fn toml(&self) -> toml::Value {
        self.to_string().into()
    }
}

const HOUR_MINUTES: i64 = 60;
const MINUTE_MS: i64 = 60_000;

/// The default of `log_roll_ms`.
pub(super) fn roll_from_hours(_: &Host, before: &[Setting]) -> String {
    from_longer("log_roll_hours", HOUR_MINUTES * MINUTE_MS, before)
}

/// The default of `log_retention_minutes`.
pub(super) fn retention_from_hours(_: &Host, before: &[Setting]) -> String {
    from_longer("log_retention_hours", HOUR_MINUTES, before)
}

/// The default of `log_retention_ms`.
pub(super) fn retention_from_minutes(_: &Host, before: &[Setting]) -> String {
    from_longer("log_retention_minutes", MINUTE_MS, before)
}

/// The time that another option says, whose unit is longer by `factor`. No limit stays none.
fn from_longer(key: &str, factor: i64, before: &[Setting]) -> String {
    let longer = before.iter().find(|setting| setting.opt.key == key);
    match longer.and_then(|setting| setting.value.as_integer()) {
        Some(time @ 0..) => time.saturating_mul(factor).to_string(),
        _ => NO_LIMIT.to_owned(),
    }
}

/// The default of `advertise`: the first address listened on; if one of them is every address of
/// the machine, the machine's name.
pub(super) fn advertise_from_listen(host: &Host, before: &[Setting]) -> String {
    let listen: Vec<HostPort> = before
        .iter()
        .filter(|setting| setting.opt.key == "listen")
        .flat_map(|setting| setting.value.as_array().into_iter().flatten())
        .filter_map(|address| HostPort::parse(address.as_str()?, DEFAULT_PORT).ok())
        .collect();
    let Some(address) = listen
        .iter()
        .find(|a| a.is_unspecified())
        .or(listen.first())
    else {
        return host.name.clone();
    };
    let host = if address.is_unspecified() {
        &host.name
    } else {
        &address.host
    };
    let port = (address.port != 0).then_some(address.port);
    Advertise {
        host: host.clone(),
        port,
    }
    .to_string()
}

fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

fn write_host(f: &mut fmt::Formatter<'_>, host: &str) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]"),
        false => f.write_str(host),
    }
}

/// Splits `host`, `host:port`, `[ipv6]`, `[ipv6]:port` or `ipv6`.
fn split_host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let wrong = || {
        format!(
            "{} is not HOST:PORT (127.0.0.1:9092, [::]:9092)",
            quote(text)
        )
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            match rest {
                "" => (host, None),
                _ => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            }
        }
        None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) if is_host_name(host) => (host, Some(port)),
            None if is_host_name(text) => (text, None),
            _ => return Err(wrong()),
        },
    };
    let port = port
        .map(|port| parse_port(port).ok_or_else(wrong))
        .transpose()?;
    Ok((host.to_owned(), port))
}

/// A host name or an IPv4 address. Whether a name exists is for the resolver to say.
fn is_host_name(host: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_HOST_NAME_LEN).contains(&host.len()) && host.chars().all(known)
}

/// Digits only: `u16::from_str` would also take a sign.
fn parse_port(text: &str) -> Option<u16> {
    text.chars()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())?
}
