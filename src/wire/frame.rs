//! Frames: what stands around a message on a connection.
//!
//! A frame is a length of four bytes, a header, and a message. The header's version follows from the
//! API and its version, so a broker has to know an API to read all of a request's header.

use bytes::Bytes;

use super::codec::{DecodeError, ErrorCounts, Message, Reader, Writer};
use super::types::StrBytes;
use super::{api_versions, first_flexible_version};

/// What stands in front of a request: header version 1, or 2 in flexible versions (KIP-482).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    /// The client's number for the request; the response carries it back.
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Reads the header. For an API that is not known here the fields are right, but tagged fields
    /// may be left before the message: such a request can only be refused.
    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let header = Self {
            api_key: r.i16().map_err(|e| e.within("RequestHeader.api_key"))?,
            api_version: r.i16().map_err(|e| e.within("RequestHeader.api_version"))?,
            correlation_id: r
                .i32()
                .map_err(|e| e.within("RequestHeader.correlation_id"))?,
            // Classic in all versions: a broker reads it before it knows the client's version.
            client_id: r
                .nullable_classic_string()
                .map_err(|e| e.within("RequestHeader.client_id"))?,
        };
        if is_flexible(header.api_key, header.api_version) {
            skip_tagged_fields(r).map_err(|e| e.within("RequestHeader"))?;
        }
        Ok(header)
    }

    /// Writes the header.
    pub fn encode(&self, w: &mut Writer) {
        w.i16(self.api_key);
        w.i16(self.api_version);
        w.i32(self.correlation_id);
        w.nullable_classic_string(self.client_id.as_ref());
        if is_flexible(self.api_key, self.api_version) {
            w.uvarint(0);
        }
    }
}

/// What stands in front of a response: header version 0, or 1 in flexible versions (KIP-482).
///
/// It does not name its API. A client takes the correlation id from a frame's first four bytes to
/// find out which request is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response to a request of this API and version.
    pub fn decode(r: &mut Reader, api_key: i16, api_version: i16) -> Result<Self, DecodeError> {
        let correlation_id = r
            .i32()
            .map_err(|e| e.within("ResponseHeader.correlation_id"))?;
        if is_response_flexible(api_key, api_version) {
            skip_tagged_fields(r).map_err(|e| e.within("ResponseHeader"))?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes the header of a response to a request of this API and version.
    pub fn encode(&self, w: &mut Writer, api_key: i16, api_version: i16) {
        w.i32(self.correlation_id);
        if is_response_flexible(api_key, api_version) {
            w.uvarint(0);
        }
    }
}

/// A request as a frame: pieces to be sent one after the other. The header says its version.
pub fn encode_request<M: Message>(header: &RequestHeader, message: &M) -> Vec<Bytes> {
    let mut w = Writer::new();
    header.encode(&mut w);
    message.encode(&mut w, header.api_version);
    w.finish()
}

/// A response as a frame: pieces to be sent one after the other.
pub fn encode_response<M: Message>(
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    message: &M,
) -> Vec<Bytes> {
    encode_answer(api_key, api_version, correlation_id, message).0
}

/// As [`encode_response`]; also gives the errors that the response tells.
pub fn encode_answer<M: Message>(
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    message: &M,
) -> (Vec<Bytes>, ErrorCounts) {
    let mut w = Writer::new();
    ResponseHeader { correlation_id }.encode(&mut w, api_key, api_version);
    message.encode(&mut w, api_version);
    let errors = w.take_errors();
    (w.finish(), errors)
}

fn is_flexible(api_key: i16, api_version: i16) -> bool {
    first_flexible_version(api_key).is_some_and(|first| api_version >= first)
}

// KIP-511: whoever asks for ApiVersions in a version that the broker does not know gets version 0
// back, and has to be able to read it; so that response's header never changes.
fn is_response_flexible(api_key: i16, api_version: i16) -> bool {
    api_key != api_versions::KEY && is_flexible(api_key, api_version)
}

fn skip_tagged_fields(r: &mut Reader) -> Result<(), DecodeError> {
    r.tagged_fields(|_, _| Ok(false))
}
