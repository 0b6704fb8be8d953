//! What is asked of filers: entries, transactions, values and leases (`weed/pb/filer.proto`).

use std::rc::Rc;

use bytes::Bytes;
use hyper::http::uri::PathAndQuery;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::call::{Failure, Kind, Time, ask, failure, method, not_ready, unary};
use super::client::Client;
use super::peers::Peer;
use super::proto::filer_pb::*;
use super::thread::Bridge;
use super::{BridgeError, Condition, Lease, List, Mutation, Page, Removal, Role, Transaction};

const LOOKUP: &str = "/filer_pb.SeaweedFiler/LookupDirectoryEntry";
const LIST: &str = "/filer_pb.SeaweedFiler/ListEntries";
const CREATE: &str = "/filer_pb.SeaweedFiler/CreateEntry";
const UPDATE: &str = "/filer_pb.SeaweedFiler/UpdateEntry";
const DELETE: &str = "/filer_pb.SeaweedFiler/DeleteEntry";
const TRANSACTION: &str = "/filer_pb.SeaweedFiler/ObjectTransaction";
const KV_GET: &str = "/filer_pb.SeaweedFiler/KvGet";
const KV_PUT: &str = "/filer_pb.SeaweedFiler/KvPut";
const LOCK: &str = "/filer_pb.SeaweedFiler/DistributedLock";
const UNLOCK: &str = "/filer_pb.SeaweedFiler/DistributedUnlock";

/// Bytes of the entries of one page; what is longer is continued in the next.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// What identifies the state of an entry in [`Condition::Etag`]: the hex of its `attributes.md5`.
/// `None` if it has none; give an entry that is to be a fence any 16 bytes there.
pub fn etag(entry: &Entry) -> Option<String> {
    let md5 = &entry.attributes.as_ref()?.md5;
    let hex = || md5.iter().map(|byte| format!("{byte:02x}")).collect();
    (!md5.is_empty()).then(hex)
}

/// The full path of an entry.
pub fn path(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

impl Bridge {
    /// The entry, if there is one.
    pub async fn lookup(&self, directory: &str, name: &str) -> Result<Option<Entry>, BridgeError> {
        let request = LookupDirectoryEntryRequest {
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        let answer = self.ask_filer(Kind::Read, LOOKUP, request).await;
        match answer {
            Ok(LookupDirectoryEntryResponse { entry }) => Ok(entry),
            Err(BridgeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of a directory, by name. A directory that is absent is empty.
    pub async fn list(&self, list: List) -> Result<Page, BridgeError> {
        self.run(
            "ListEntries",
            PAGE_BYTES_MAX,
            async move |client: Rc<Client>, time| {
                let read = async |peer: &Peer| read_page(peer, &list).await;
                ask(&client.filers, Kind::Read, time, read).await
            },
        )
        .await
    }

    /// Makes an entry, and its parents; replaces one that is there, unless `exclusive`.
    ///
    /// # Errors
    /// [`BridgeError::Conflict`] if `exclusive` and it is there.
    pub async fn create(
        &self,
        directory: &str,
        entry: Entry,
        exclusive: bool,
    ) -> Result<(), BridgeError> {
        if exclusive {
            // CreateEntry's o_excl holds on one filer only; a transaction is brought to the owner.
            let directory = directory.to_owned();
            return self
                .transact(Transaction {
                    lock: path(&directory, &entry.name),
                    condition: Some(Condition::Absent),
                    mutations: vec![Mutation::Put { directory, entry }],
                })
                .await;
        }
        let request = CreateEntryRequest {
            directory: directory.to_owned(),
            entry: Some(entry),
            o_excl: false,
        };
        let refused = |answer: &CreateEntryResponse| in_band(&answer.error, answer.error_code());
        self.change_filer(CREATE, request, refused).await.map(drop)
    }

    /// Replaces an entry, if its extended attributes still have the values of `expected` (an empty
    /// value: none). This is exact among those who use the same filer.
    ///
    /// # Errors
    /// [`BridgeError::Conflict`] if they have not; [`BridgeError::NotFound`] if it is absent.
    pub async fn update(
        &self,
        directory: &str,
        entry: Entry,
        expected: Vec<(String, Bytes)>,
    ) -> Result<(), BridgeError> {
        let request = UpdateEntryRequest {
            directory: directory.to_owned(),
            entry: Some(entry),
            expected_extended: expected.into_iter().collect(),
        };
        let answer = self.ask_filer(Kind::Change, UPDATE, request).await;
        answer.map(|UpdateEntryResponse {}| ())
    }

    /// Removes an entry. No error if it is absent.
    pub async fn delete(
        &self,
        directory: &str,
        name: &str,
        removal: Removal,
    ) -> Result<(), BridgeError> {
        let request = DeleteEntryRequest {
            directory: directory.to_owned(),
            name: name.to_owned(),
            is_delete_data: removal.data,
            is_recursive: removal.recursive,
        };
        let refused = |answer: &DeleteEntryResponse| in_band(&answer.error, FilerError::Ok);
        self.change_filer(DELETE, request, refused).await.map(drop)
    }

    /// Makes all the changes, if the condition holds.
    ///
    /// # Errors
    /// [`BridgeError::Conflict`] if the condition does not hold; nothing was changed then.
    pub async fn transact(&self, transaction: Transaction) -> Result<(), BridgeError> {
        let request = ObjectTransactionRequest::from(transaction);
        let refused =
            |answer: &ObjectTransactionResponse| in_band(&answer.error, answer.error_code());
        self.change_filer(TRANSACTION, request, refused)
            .await
            .map(drop)
    }

    /// A value of the filer's store.
    pub async fn kv_get(&self, key: Bytes) -> Result<Option<Bytes>, BridgeError> {
        let refused = |answer: &KvGetResponse| in_band(&answer.error, FilerError::Ok);
        let request = KvGetRequest { key };
        let answer = self
            .ask_filer_checked(Kind::Read, KV_GET, request, refused)
            .await?;
        Ok(Some(answer.value).filter(|value| !value.is_empty()))
    }

    /// Sets a value; an empty one is removed.
    pub async fn kv_put(&self, key: Bytes, value: Bytes) -> Result<(), BridgeError> {
        let refused = |answer: &KvPutResponse| in_band(&answer.error, FilerError::Ok);
        let request = KvPutRequest { key, value };
        self.change_filer(KV_PUT, request, refused).await.map(drop)
    }

    /// Takes the lease on a name that nobody has, for so many seconds.
    ///
    /// # Errors
    /// [`BridgeError::Conflict`] if somebody has it.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        seconds: i64,
    ) -> Result<Lease, BridgeError> {
        let lease = Lease {
            name: name.to_owned(),
            owner: owner.to_owned(),
            token: String::new(),
        };
        self.renew(lease, seconds).await
    }

    /// Keeps a lease, for so many seconds from now.
    ///
    /// # Errors
    /// [`BridgeError::Conflict`] if it is lost.
    pub async fn renew(&self, lease: Lease, seconds: i64) -> Result<Lease, BridgeError> {
        let request = LockRequest {
            name: lease.name.clone(),
            seconds_to_lock: seconds,
            renew_token: lease.token,
            owner: lease.owner.clone(),
        };
        let lost = |answer: &LockResponse| lease_error(&answer.error);
        let answer = self.change_filer(LOCK, request, lost).await?;
        Ok(Lease {
            name: lease.name,
            owner: lease.owner,
            token: answer.renew_token,
        })
    }

    /// Gives a lease back.
    pub async fn release(&self, lease: Lease) -> Result<(), BridgeError> {
        let request = UnlockRequest {
            name: lease.name,
            renew_token: lease.token,
        };
        let lost = |answer: &UnlockResponse| lease_error(&answer.error);
        self.change_filer(UNLOCK, request, lost).await.map(drop)
    }

    async fn ask_filer<Q, A>(
        &self,
        kind: Kind,
        rpc: &'static str,
        request: Q,
    ) -> Result<A, BridgeError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask_filer_checked(kind, rpc, request, |_| Ok(())).await
    }

    async fn change_filer<Q, A>(
        &self,
        rpc: &'static str,
        request: Q,
        check: impl Fn(&A) -> Result<(), Failure> + Send + 'static,
    ) -> Result<A, BridgeError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask_filer_checked(Kind::Change, rpc, request, check)
            .await
    }

    /// `check` finds the error that an answer tells.
    async fn ask_filer_checked<Q, A>(
        &self,
        kind: Kind,
        rpc: &'static str,
        request: Q,
        check: impl Fn(&A) -> Result<(), Failure> + Send + 'static,
    ) -> Result<A, BridgeError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let bytes = request.encoded_len();
        self.run(method(rpc), bytes, async move |client: Rc<Client>, time| {
            client.ask_filer(kind, time, rpc, &request, &check).await
        })
        .await
    }
}

impl Client {
    pub(super) async fn ask_filer<Q, A>(
        &self,
        kind: Kind,
        time: Time,
        rpc: &'static str,
        request: &Q,
        check: &impl Fn(&A) -> Result<(), Failure>,
    ) -> Result<A, BridgeError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        ask(&self.filers, kind, time, async |peer: &Peer| {
            let answer = unary(peer.channel(), Role::Filer, rpc, request.clone()).await?;
            check(&answer)?;
            Ok(answer)
        })
        .await
    }
}

async fn read_page(peer: &Peer, list: &List) -> Result<Page, Failure> {
    let request = ListEntriesRequest {
        directory: list.directory.clone(),
        prefix: list.prefix.clone(),
        start_from_file_name: list.after.clone(),
        inclusive_start_from: false,
        // One more tells whether there is more.
        limit: list.limit.saturating_add(1),
    };
    let mut grpc = Grpc::new(peer.channel());
    grpc.ready().await.map_err(not_ready)?;
    let codec = ProstCodec::<ListEntriesRequest, ListEntriesResponse>::default();
    let path = PathAndQuery::from_static(LIST);
    let answer = grpc
        .server_streaming(Request::new(request), path, codec)
        .await;
    let mut stream = answer.map_err(|s| failure(Role::Filer, s))?.into_inner();
    let mut page = Page::default();
    let mut bytes = 0;
    while let Some(answer) = stream
        .message()
        .await
        .map_err(|s| failure(Role::Filer, s))?
    {
        let Some(entry) = answer.entry else { continue };
        bytes += entry.encoded_len();
        let full = page.entries.len() >= list.limit as usize || bytes > PAGE_BYTES_MAX;
        if full && !page.entries.is_empty() {
            page.more = true;
            break;
        }
        page.entries.push(entry);
    }
    Ok(page)
}

/// The error that a filer's answer tells in itself.
fn in_band(error: &str, code: FilerError) -> Result<(), Failure> {
    let error = error.to_owned();
    match code {
        FilerError::Ok if error.is_empty() => Ok(()),
        FilerError::Ok => Err(Failure::Failed(error)),
        FilerError::EntryAlreadyExists | FilerError::PreconditionFailed => {
            Err(Failure::Final(BridgeError::Conflict(error)))
        }
        FilerError::EntryNameTooLong
        | FilerError::ParentIsFile
        | FilerError::ExistingIsDirectory
        | FilerError::ExistingIsFile => Err(Failure::Final(BridgeError::Refused {
            role: Role::Filer,
            reason: error,
        })),
    }
}

/// Whether a lock is somebody else's is told in words only (`lock_manager.go`).
fn lease_error(error: &str) -> Result<(), Failure> {
    let theirs = [
        "lock already owned",
        "token mismatch",
        "not found",
        "expired",
    ];
    match error {
        "" => Ok(()),
        _ if theirs.iter().any(|words| error.contains(words)) => {
            Err(Failure::Final(BridgeError::Conflict(error.to_owned())))
        }
        _ => Err(Failure::Failed(error.to_owned())),
    }
}

impl From<Transaction> for ObjectTransactionRequest {
    fn from(transaction: Transaction) -> Self {
        use write_condition::{Clause, Kind};
        let clause = transaction.condition.map(|condition| match condition {
            Condition::Absent => (Kind::IfNotExists, vec![]),
            Condition::Present => (Kind::IfExists, vec![]),
            Condition::Etag(etag) => (Kind::IfEtagMatch, vec![etag]),
        });
        let condition = clause.map(|(kind, etags)| WriteCondition {
            clauses: vec![Clause {
                kind: kind.into(),
                etags,
            }],
        });
        ObjectTransactionRequest {
            route_key: transaction.lock.clone(),
            lock_key: transaction.lock,
            condition,
            mutations: transaction.mutations.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Mutation> for ObjectMutation {
    fn from(mutation: Mutation) -> Self {
        use object_mutation::Type;
        match mutation {
            Mutation::Put { directory, entry } => ObjectMutation {
                r#type: Type::Put.into(),
                directory,
                entry: Some(entry),
                ..Default::default()
            },
            Mutation::Delete {
                directory,
                name,
                data,
                recursive,
            } => ObjectMutation {
                r#type: Type::Delete.into(),
                directory,
                name,
                is_delete_data: data,
                is_recursive: recursive,
                ..Default::default()
            },
            Mutation::Patch {
                directory,
                name,
                set,
                remove,
            } => ObjectMutation {
                r#type: Type::PatchExtended.into(),
                directory,
                name,
                set_extended: set.into_iter().collect(),
                delete_extended: remove,
                ..Default::default()
            },
        }
    }
}
