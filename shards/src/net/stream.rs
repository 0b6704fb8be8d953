//! One connection.

use super::balance::Counted;
use crate::poller::{Registered, Side};
use crate::task::turn;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

/// Most pieces in one system call: the kernel's UIO_MAXIOV.
const MAX_PIECES: usize = 1024;
/// Most bytes in one system call. The kernel copies them at once, which takes about 0.1 ms.
const MAX_BYTES: usize = 512 << 10;
/// Bytes that are sent before the shard's other work has its turn.
const BYTES_PER_TURN: usize = 1 << 20;
/// Pieces up to which a call needs no allocation.
const FEW_PIECES: usize = 16;
/// Room made for `recv` if its buffer has none.
const DEFAULT_ROOM: usize = 4 << 10;

/// A TCP connection of this shard.
///
/// Receiving and sending do not disturb each other, in one task or in two: all methods take `&self`.
/// One task at a time receives, and one sends.
#[derive(Debug)]
pub struct Stream {
    socket: Registered,
    peer: SocketAddr,
    _counted: Counted,
}

impl Stream {
    pub(super) fn new(socket: Registered, peer: SocketAddr, counted: Counted) -> Self {
        Self {
            socket,
            peer,
            _counted: counted,
        }
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address.
    ///
    /// # Errors
    /// What the kernel says; in practice none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.socket).local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket without an IP address"))
    }

    /// Waits until there is something to receive: bytes, the end of the stream, or an error, which
    /// the next receiving call tells. So an idle connection needs no buffer.
    pub async fn readable(&self) {
        let mut byte = [MaybeUninit::uninit()];
        // Whatever comes of it, there is something to receive.
        let _ = poll_fn(|cx| {
            self.socket.poll_io(Side::Read, cx, |socket| {
                Ok(recv(socket, &mut byte, RecvFlags::PEEK)?.1)
            })
        })
        .await;
    }

    /// Receives into `buffer`'s spare room; if it has none, 4 KiB are reserved. Returns the number of
    /// bytes, 0 for the end of the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the kernel says, such as a connection reset.
    pub async fn recv(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        if buffer.capacity() == buffer.len() {
            buffer.reserve(DEFAULT_ROOM);
        }
        poll_fn(|cx| {
            let received = std::task::ready!(self.poll_recv(cx, buffer.spare_capacity_mut()))?;
            // SAFETY: that many bytes of the spare room are initialised: `poll_recv` says so.
            unsafe { buffer.advance_mut(received) };
            Poll::Ready(Ok(received))
        })
        .await
    }

    /// Receives into `buffer`; as [`Stream::recv`].
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub async fn recv_slice(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len();
        poll_fn(|cx| {
            let received = std::task::ready!(self.socket.poll_io(Side::Read, cx, |socket| {
                Ok(recv(socket, &mut *buffer, RecvFlags::empty())?.1)
            }))?;
            self.received(received, length);
            Poll::Ready(Ok(received))
        })
        .await
    }

    /// Sends all of `rope`, without copying its pieces together. What is sent is taken out of it: if
    /// the future is dropped, or fails, the rest is still there.
    ///
    /// # Errors
    /// What the kernel says, such as a connection reset.
    pub async fn send(&self, rope: &mut VecDeque<Bytes>) -> io::Result<()> {
        let mut since_turn = 0;
        loop {
            while rope.front().is_some_and(Bytes::is_empty) {
                rope.pop_front();
            }
            if rope.is_empty() {
                return Ok(());
            }
            let mut sent =
                poll_fn(|cx| self.poll_send(cx, rope.iter().map(|piece| &piece[..]))).await?;
            since_turn += sent;
            while let Some(piece) = rope.front_mut() {
                if piece.len() > sent {
                    piece.advance(sent);
                    break;
                }
                sent -= piece.len();
                rope.pop_front();
            }
            if since_turn >= BYTES_PER_TURN && !rope.is_empty() {
                since_turn = 0;
                turn().await;
            }
        }
    }

    /// Sends all of `pieces`, without copying them together. If the future is dropped, nobody knows
    /// how much was sent.
    ///
    /// # Errors
    /// What the kernel says, such as a connection reset.
    pub async fn send_pieces(&self, pieces: &[Bytes]) -> io::Result<()> {
        let mut since_turn = 0;
        // The first piece that is not sent in full, and how much of it is sent.
        let (mut first, mut offset) = (0, 0);
        loop {
            while first < pieces.len() && pieces[first].len() == offset {
                (first, offset) = (first + 1, 0);
            }
            if first == pieces.len() {
                return Ok(());
            }
            let rest = || {
                let whole = pieces[first + 1..].iter().map(|piece| &piece[..]);
                std::iter::once(&pieces[first][offset..]).chain(whole)
            };
            let mut sent = poll_fn(|cx| self.poll_send(cx, rest())).await?;
            since_turn += sent;
            while sent >= pieces[first].len() - offset {
                sent -= pieces[first].len() - offset;
                (first, offset) = (first + 1, 0);
                if first == pieces.len() {
                    return Ok(());
                }
            }
            offset += sent;
            if since_turn >= BYTES_PER_TURN {
                since_turn = 0;
                turn().await;
            }
        }
    }

    /// Ends one direction of the connection, or both. The other side sees the end of the stream.
    ///
    /// # Errors
    /// The connection has ended already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&self.socket).shutdown(how)
    }

    /// Receives into `room`. As many bytes as it returns are initialised, from the start.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        room: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        let received = std::task::ready!(self.socket.poll_io(Side::Read, cx, |socket| {
            let ((received, _), _) = recv(socket, &mut *room, RecvFlags::empty())?;
            Ok(received.len())
        }))?;
        self.received(received, room.len());
        Poll::Ready(Ok(received))
    }

    /// If less came than there was room for, nothing is left: no need to try before the next event.
    fn received(&self, received: usize, room: usize) {
        if received > 0 && received < room {
            self.socket.exhausted(Side::Read);
        }
    }

    /// Sends some of the pieces, and waits if the socket is full.
    fn poll_send<'a>(
        &self,
        cx: &mut Context<'_>,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_io(Side::Write, cx, |socket| {
            let (mut few, mut many) = ([IoSlice::new(&[]); FEW_PIECES], Vec::new());
            let slices = gather(pieces.clone(), &mut few, &mut many);
            SockRef::from(&socket).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL)
        })
    }
}

/// Collects what goes into one system call: in `few`, or all in `many` if there are more.
fn gather<'a, 'b>(
    pieces: impl Iterator<Item = &'a [u8]>,
    few: &'b mut [IoSlice<'a>; FEW_PIECES],
    many: &'b mut Vec<IoSlice<'a>>,
) -> &'b [IoSlice<'a>] {
    let (mut count, mut bytes) = (0, 0);
    for piece in pieces.take(MAX_PIECES) {
        let piece = &piece[..piece.len().min(MAX_BYTES - bytes)];
        if count < FEW_PIECES {
            few[count] = IoSlice::new(piece);
        } else {
            if count == FEW_PIECES {
                many.extend_from_slice(few);
            }
            many.push(IoSlice::new(piece));
        }
        count += 1;
        bytes += piece.len();
        if bytes == MAX_BYTES {
            break;
        }
    }
    if count <= FEW_PIECES {
        &few[..count]
    } else {
        many
    }
}
