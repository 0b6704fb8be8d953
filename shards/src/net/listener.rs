//! Accepting connections.

use super::balance::{Accepted, Counted, Group, Member};
use super::stream::Stream;
use crate::local::Latched;
use crate::lock::lock;
use crate::log_limited;
use crate::poller::{Poller, Registered, Side};
use crate::runtime::{Common, Listening};
use crate::shard::{Service, Shard};
use crate::time::{Sleep, sleep};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Connections that the kernel holds for this listener until they are accepted. The sysctl
/// `net.core.somaxconn`, 4096 by default, bounds it as well.
const BACKLOG: i32 = 4096;
/// How long to let a shortage pass: of descriptors, of memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections on one address, for this shard, until the runtime stops.
pub struct Listener {
    socket: Registered,
    poller: Rc<Poller>,
    address: SocketAddr,
    common: Arc<Common>,
    shard: usize,
    /// Other shards listen on the address too.
    member: Option<Member>,
    stopping: RefCell<Latched>,
    /// While it lasts, nothing is accepted, nor taken from other shards.
    pause: RefCell<Option<Sleep>>,
}

impl Listener {
    /// Listens on an address that all shards share: each calls this, and the kernel spreads
    /// connections over those that have (SO_REUSEPORT). A shard that has more connections than another
    /// hands those that come to it on, to the one that has the fewest. With port 0 the first shard gets
    /// a free port and the others the same one; a shard that binds one address again begins another
    /// such group.
    ///
    /// An unspecified IPv6 address takes IPv4 connections too. TCP_NODELAY is set on all, and
    /// SO_KEEPALIVE, by which the kernel finds out which peers have vanished.
    ///
    /// # Errors
    /// The address is in use, also by another process's shards, or is not this host's.
    pub fn bind<S: Service>(shard: &Shard<S>, address: SocketAddr) -> io::Result<Self> {
        let mut asked = shard.inner.listening.borrow_mut();
        let nth = asked.iter().filter(|asked| **asked == address).count();
        asked.push(address);
        let (socket, group) = shared_socket(&shard.inner.common, address, nth)?;
        Self::listen(shard, socket, Some(group))
    }

    /// Listens on an address that is this shard's alone, and so are the connections that come to it.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind_own<S: Service>(shard: &Shard<S>, address: SocketAddr) -> io::Result<Self> {
        Self::listen(shard, bound_socket(address, false)?, None)
    }

    fn listen<S: Service>(
        shard: &Shard<S>,
        socket: Socket,
        group: Option<Arc<Group>>,
    ) -> io::Result<Self> {
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        let address = address_of(&socket)?;
        let poller = shard.inner.tasks.poller.clone();
        Ok(Self {
            socket: poller.register(socket.into())?,
            poller,
            address,
            common: shard.inner.common.clone(),
            shard: shard.index(),
            member: group.map(|group| group.enter(shard.index())),
            stopping: RefCell::new(shard.stopping()),
            pause: RefCell::new(None),
        })
    }

    /// The address, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. `None`: the runtime stops. Dropping the future loses nothing.
    ///
    /// A shortage of descriptors or memory is logged, and waited out: the kernel keeps the
    /// connections meanwhile.
    pub async fn accept(&self) -> Option<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        if Pin::new(&mut *self.stopping.borrow_mut())
            .poll(cx)
            .is_ready()
        {
            return Poll::Ready(None);
        }
        loop {
            if let Some(pause) = &mut *self.pause.borrow_mut() {
                std::task::ready!(Pin::new(pause).poll(cx));
            }
            self.pause.take();
            if let Some(handed) = std::task::ready!(self.poll_handed(cx)) {
                match self.watch(handed) {
                    Some(stream) => return Poll::Ready(Some(stream)),
                    None => continue,
                }
            }
            match std::task::ready!(self.socket.poll_io(Side::Read, cx, accept_now)) {
                // No peer: it has gone already.
                Ok((_, None)) => {}
                Ok((socket, Some(peer))) => {
                    if let Some(own) = self.hand_on(socket, peer)
                        && let Some(stream) = self.watch(own)
                    {
                        return Poll::Ready(Some(stream));
                    }
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => self.begin_pause(&error),
            }
        }
    }

    fn poll_handed(&self, cx: &mut Context<'_>) -> Poll<Option<Accepted>> {
        match &self.member {
            Some(member) => member.poll_handed(&self.poller, cx),
            None => Poll::Ready(None),
        }
    }

    /// The connection, if it is to stay here.
    fn hand_on(&self, socket: OwnedFd, peer: SocketAddr) -> Option<Accepted> {
        let bells = &self.common.bells;
        match &self.member {
            Some(member) => member.hand_on(bells, socket, peer),
            None => Some(Accepted {
                socket,
                peer,
                counted: Counted::on(&bells[self.shard]),
            }),
        }
    }

    fn watch(&self, accepted: Accepted) -> Option<Stream> {
        match self.poller.register(accepted.socket) {
            Ok(socket) => Some(Stream::new(socket, accepted.peer, accepted.counted)),
            Err(error) => {
                self.begin_pause(&error);
                None
            }
        }
    }

    fn begin_pause(&self, error: &io::Error) {
        log_limited!(warn, address = %self.address, "cannot accept connections, trying again; raise the limit of open files (LimitNOFILE, ulimit -n) or free memory: {error}");
        self.pause.replace(Some(sleep(SHORTAGE_PAUSE)));
    }
}

fn accept_now(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, peer) = acceptfrom_with(listener, flags)?;
    Ok((socket, peer.and_then(|peer| peer.try_into().ok())))
}

/// accept(2) also tells errors of the connection that it would have returned.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// A socket on an address that other shards listen on as well.
fn shared_socket(
    common: &Common,
    asked: SocketAddr,
    nth: usize,
) -> io::Result<(Socket, Arc<Group>)> {
    let mut listening = lock(&common.listening);
    let known = listening
        .iter()
        .find(|known| known.asked == asked && known.nth == nth);
    if let Some(known) = known {
        return Ok((bound_socket(known.bound, true)?, known.group.clone()));
    }
    // SO_REUSEPORT lets another process of this user in as well, which would take half of the
    // connections. Without it the kernel tells whether somebody else listens.
    let bound = address_of(&bound_socket(asked, false)?)?;
    let socket = bound_socket(bound, true)?;
    let group = Group::new(common.bells.len());
    listening.push(Listening {
        asked,
        nth,
        bound,
        group: group.clone(),
    });
    Ok((socket, group))
}

fn bound_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger in TIME_WAIT do not count.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("a TCP socket without an IP address"))
}
