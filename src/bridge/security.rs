//! What SeaweedFS's `security.toml` says to a client: certificates for gRPC and keys for chunks
//! (`weed/security/tls.go`, `jwt.go`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::Deserialize;
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

/// How long a token for a chunk is good, in seconds.
const TOKEN_TTL_S: u64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("cannot read {path}, which SeaweedFS's security.toml is or names: {error}")]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path} is no security.toml of SeaweedFS: {error}")]
    Parse {
        path: PathBuf,
        error: Box<toml::de::Error>,
    },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
}

/// What a client must show, and see, to be let in. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub(super) tls: Option<Tls>,
    /// For chunks that are removed, and read.
    pub(super) write: Option<Key>,
    pub(super) read: Option<Key>,
}

impl Security {
    /// Reads a `security.toml`: `grpc.ca`, the certificate of `[grpc.mq]` or else of `[grpc.client]`,
    /// and the keys `jwt.signing`. Paths in it are relative to its folder. It blocks.
    ///
    /// # Errors
    /// If it, or a file that it names, cannot be read; if there is only a part of what TLS needs; if it
    /// asks for HTTPS, which is not supported.
    pub fn load(path: &Path) -> Result<Security, SecurityError> {
        let invalid = |what: &str| SecurityError::Invalid {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let text = String::from_utf8(read(path)?).map_err(|_| invalid("it is no UTF-8"))?;
        let file: File = toml::from_str(&text).map_err(|error| SecurityError::Parse {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        if file.https.client.enabled {
            return Err(invalid(
                "https.client is enabled; volume servers are reached over HTTP only",
            ));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        Ok(Security {
            tls: file.grpc.tls(folder, &invalid)?,
            write: Key::new(&file.jwt.signing.key),
            read: Key::new(&file.jwt.signing.read.key),
        })
    }
}

/// The part of the file that is for clients.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    grpc: Grpc,
    jwt: Jwt,
    https: Https,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Grpc {
    ca: String,
    mq: Certificate,
    client: Certificate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Certificate {
    cert: String,
    key: String,
    client_cert: String,
    client_key: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwt {
    signing: Signing,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Signing {
    key: String,
    read: ReadSigning,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReadSigning {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Https {
    client: HttpsClient,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HttpsClient {
    enabled: bool,
}

impl Certificate {
    /// The paths of certificate and key, those for clients first; empty if there are none.
    fn paths(&self) -> (&str, &str) {
        match self.client_cert.is_empty() && self.client_key.is_empty() {
            true => (&self.cert, &self.key),
            false => (&self.client_cert, &self.client_key),
        }
    }
}

impl Grpc {
    /// `weed` goes without TLS if a part of it is missing; here that is an error.
    fn tls(
        &self,
        folder: &Path,
        invalid: &dyn Fn(&str) -> SecurityError,
    ) -> Result<Option<Tls>, SecurityError> {
        let (cert, key) = match self.mq.paths() {
            ("", "") => self.client.paths(),
            paths => paths,
        };
        if cert.is_empty() && key.is_empty() && self.ca.is_empty() {
            return Ok(None);
        }
        if cert.is_empty() || key.is_empty() || self.ca.is_empty() {
            return Err(invalid(
                "TLS needs grpc.ca, and cert and key in [grpc.mq] or [grpc.client]",
            ));
        }
        let [ca, cert, key] = [self.ca.as_str(), cert, key].map(|path| folder.join(path));
        let roots = Roots::of(&read(&ca)?).map_err(|error| SecurityError::Invalid {
            path: ca,
            what: error.to_string(),
        })?;
        let identity = Identity::from_pem(read(&cert)?, read(&key)?);
        let tls = Tls {
            identity,
            verifier: Arc::new(roots),
        };
        // What is wrong with the certificate shows here and not at each connection.
        let tried = tls.secure(Endpoint::from_static("https://127.0.0.1:1"));
        tried.map_err(|error| SecurityError::Invalid {
            path: cert,
            what: super::call::with_sources(&error),
        })?;
        Ok(Some(tls))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SecurityError> {
    std::fs::read(path).map_err(|error| SecurityError::Read {
        path: path.to_owned(),
        error,
    })
}

/// Mutual TLS.
#[derive(Clone)]
pub(super) struct Tls {
    identity: Identity,
    verifier: Arc<Roots>,
}

impl Tls {
    pub(super) fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, tonic::transport::Error> {
        let config = ClientTlsConfig::new().identity(self.identity.clone());
        endpoint.tls_config_with_verifier(config, self.verifier.clone())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The authorities that servers' certificates are from. Names are not checked: SeaweedFS checks none,
/// and its certificates need have none.
#[derive(Debug)]
struct Roots {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Roots {
    fn of(pem: &[u8]) -> Result<Roots, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| rustls::Error::General(e.to_string()))?;
            roots.add(certificate)?;
        }
        match roots.is_empty() {
            true => Err(rustls::Error::General("no certificate in it".to_owned())),
            false => Ok(Roots {
                roots,
                provider: Arc::new(rustls::crypto::ring::default_provider()),
            }),
        }
    }
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Signs tokens that let a client touch one chunk.
#[derive(Clone)]
pub(super) struct Key(hmac::Key);

impl Key {
    fn new(key: &str) -> Option<Key> {
        (!key.is_empty()).then(|| Key(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())))
    }

    /// A JSON web token (RFC 7519, HS256) for a file id.
    pub(super) fn token(&self, file_id: &str) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.sign(file_id, now.as_secs() + TOKEN_TTL_S)
    }

    fn sign(&self, file_id: &str, expires: u64) -> String {
        // Of several that were assigned at once, all have the token of the first.
        let file_id = file_id.split('_').next().unwrap_or_default();
        let claims = serde_json::json!({ "fid": file_id, "exp": expires }).to_string();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Security, SecurityError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("security.toml");
        std::fs::write(&path, text).expect("it is written");
        Security::load(&path)
    }

    #[test]
    fn half_of_what_tls_needs_is_an_error_and_not_plaintext() {
        assert!(load("").expect("nothing is asked for").tls.is_none());
        assert!(
            load("[grpc]\nca = \"\"")
                .expect("nothing is asked for")
                .tls
                .is_none()
        );
        for text in [
            "[grpc]\nca = \"ca.pem\"",
            "[grpc.mq]\ncert = \"a\"\nkey = \"b\"",
            "[grpc]\nca = \"ca.pem\"\n[grpc.client]\ncert = \"a\"",
            "[grpc]\nca = \"ca.pem\"\n[grpc.mq]\ncert = \"a\"\nkey = \"b\"",
            "[https.client]\nenabled = true",
            "grpc = 1",
        ] {
            assert!(load(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_signed_as_the_standard_says() {
        let security = load("[jwt.signing]\nkey = \"secret\"").expect("a key");
        assert!(security.read.is_none() && !format!("{security:?}").contains("secret"));
        let token = security
            .write
            .expect("a key")
            .sign("3,01637037d6_1", 1_700_000_000);
        let [header, claims, signature] = token
            .split('.')
            .collect::<Vec<_>>()
            .try_into()
            .expect("three parts");
        let text = |part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64"));
        assert_eq!(
            text(header).expect("text"),
            r#"{"alg":"HS256","typ":"JWT"}"#
        );
        assert_eq!(
            text(claims).expect("text"),
            r#"{"exp":1700000000,"fid":"3,01637037d6"}"#
        );
        assert_eq!(signature, "yFJvYESg1LIWwAdCUimxqdnShBCsNmiWxN1Obg8iVd8");
    }
}
