//! A plain blocking client: one connection, requests encoded beforehand where speed matters.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use tidegate::wire::frame::{RequestHeader, ResponseHeader, encode_request};
use tidegate::wire::{Message, Reader, StrBytes, create_topics, delete_topics};

/// Longer than any answer may take; a peer that hangs fails the run instead.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the correlation id stands in a frame, behind length, API key and version.
const CORRELATION_ID_AT: usize = 8;

/// Where requests go, and in which versions.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    pub produce_version: i16,
    pub fetch_version: i16,
}

impl Target {
    pub fn new(address: SocketAddr) -> Self {
        Target {
            address,
            produce_version: 9,
            fetch_version: 11,
        }
    }

    /// For one that knows the protocol up to Kafka 2.0 only.
    pub fn old(address: SocketAddr) -> Self {
        Target {
            address,
            produce_version: 7,
            fetch_version: 7,
        }
    }
}

/// A request as it goes over the wire, length included.
pub struct Encoded {
    bytes: Vec<u8>,
}

impl Encoded {
    pub fn new<M: Message>(api_key: i16, api_version: i16, message: &M) -> Self {
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id: 0,
            client_id: Some(StrBytes::from("compare")),
        };
        let bytes = encode_request(&header, message).concat();
        Encoded { bytes }
    }

    fn numbered(&mut self, correlation_id: i32) -> &[u8] {
        let field = CORRELATION_ID_AT..CORRELATION_ID_AT + 4;
        self.bytes[field].copy_from_slice(&correlation_id.to_be_bytes());
        &self.bytes
    }
}

pub struct Client {
    stream: TcpStream,
    sent: i32,
    received: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            sent: 0,
            received: 0,
        })
    }

    /// The same connection for a thread that only receives.
    pub fn receiver(&self) -> io::Result<Self> {
        Ok(Client {
            stream: self.stream.try_clone()?,
            ..*self
        })
    }

    pub fn send(&mut self, request: &mut Encoded) -> io::Result<()> {
        self.sent += 1;
        self.stream.write_all(request.numbered(self.sent))
    }

    /// The next response as it came, whatever it answers.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        let mut frame = Vec::with_capacity(len);
        (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    /// The response to the next request that has none yet.
    pub fn receive<M: Message>(&mut self, api_key: i16, api_version: i16) -> io::Result<M> {
        self.received += 1;
        let mut reader = Reader::new(self.receive_frame()?);
        let header = ResponseHeader::decode(&mut reader, api_key, api_version);
        let header = header.map_err(io::Error::other)?;
        if header.correlation_id != self.received {
            return Err(io::Error::other("a response to another request"));
        }
        M::decode(&mut reader, api_version).map_err(io::Error::other)
    }

    pub fn call<Q: Message, A: Message>(
        &mut self,
        api_key: i16,
        api_version: i16,
        request: &Q,
    ) -> io::Result<A> {
        self.send(&mut Encoded::new(api_key, api_version, request))?;
        self.receive(api_key, api_version)
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32) -> io::Result<()> {
        self.create_topics([name.to_owned()], partitions)
    }

    /// Creates topics with as many partitions each.
    pub fn create_topics(
        &mut self,
        names: impl IntoIterator<Item = String>,
        partitions: i32,
    ) -> io::Result<()> {
        let topic = |name: String| create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = create_topics::Request {
            topics: names.into_iter().map(topic).collect(),
            timeout_ms: 60_000,
            ..Default::default()
        };
        let response: create_topics::Response = self.call(create_topics::KEY, 5, &request)?;
        let mut created = response.topics.iter();
        created.try_for_each(|topic| ok(topic.error_code, "CreateTopics"))
    }

    pub fn delete_topic(&mut self, name: &str) -> io::Result<()> {
        let request = delete_topics::Request {
            topic_names: vec![name.to_owned().into()],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let response: delete_topics::Response = self.call(delete_topics::KEY, 4, &request)?;
        ok(response.responses[0].error_code, "DeleteTopics")
    }
}

/// An error code that says that something failed, as an error.
pub fn ok(code: tidegate::wire::ErrorCode, what: &str) -> io::Result<()> {
    match code.is_ok() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{what}: {code:?}"))),
    }
}
