//! The connection to NATS: how a machine shows who it is, and the buckets.

use super::error::SiteError;
use super::lease::LIFE;
use super::message::{INDEX, LEASES, NODES};
use async_nats::jetstream::{self, kv, stream::StorageType};
use async_nats::{Client, ConnectOptions, Event};
use std::time::Duration;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often a connection that is idle is looked at.
const PING: Duration = Duration::from_secs(10);
/// How long an answer of the server, or of another site, may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to connect.
const PAUSE_MOST: Duration = Duration::from_secs(10);
/// How many messages may wait to be read, of one subscription; the newest are lost beyond that.
const WAITING_MAX: usize = 4096;
/// How long the index of a site is kept that says no more.
const INDEX_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a machine counts as one of its site after it last said so.
pub(super) const NODE_KEPT: Duration = Duration::from_secs(60);

/// What the servers are shown: a credentials file (`.creds`, a JWT and the seed of an nkey), or the seed of an nkey. Wiped when it is dropped.
#[derive(Clone)]
pub struct Credential(Zeroizing<String>);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Not a credential for NATS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is neither a NATS credentials file (.creds) nor the seed of an nkey of a user (SU…)")]
pub struct CredentialError;

impl Credential {
    /// The text of a file.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(secret: &[u8]) -> Result<Self, CredentialError> {
        let text = std::str::from_utf8(secret).map_err(|_| CredentialError)?.trim();
        // The client reads no file whose last line has no end, which is how editors and secret stores may leave it.
        let credential = Self(Zeroizing::new(format!("{text}\n")));
        if text.starts_with("SU") && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(credential);
        }
        match ConnectOptions::with_credentials(&credential.0) {
            Ok(_) => Ok(credential),
            Err(_) => Err(CredentialError),
        }
    }

    fn is_seed(&self) -> bool {
        self.0.starts_with("SU")
    }
}

/// Connects in the background and for as long as the client lives; tells of what becomes of the connection.
pub(super) async fn connect(
    servers: &[String],
    credential: Option<&Credential>,
    name: &str,
    events: mpsc::Sender<Event>,
) -> Result<Client, SiteError> {
    let options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_LIMIT)
        .request_timeout(Some(ANSWER_LIMIT))
        .ping_interval(PING)
        .subscription_capacity(WAITING_MAX)
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempt| {
            let pause = Duration::from_millis(250).saturating_mul(u32::try_from(attempt).unwrap_or(u32::MAX));
            pause.min(PAUSE_MOST)
        })
        .event_callback(move |event| {
            // Whoever does not keep up learns it from the state of the client.
            let _ = events.try_send(event);
            std::future::ready(())
        });
    let options = match credential {
        Some(credential) if credential.is_seed() => options.nkey(credential.0.trim().to_owned()),
        Some(credential) => options.credentials(&credential.0).map_err(|error| SiteError::nats(&error))?,
        None => options,
    };
    options.connect(servers).await.map_err(|error| SiteError::nats(&error))
}

/// The buckets of this protocol, made where they are missing.
#[derive(Clone)]
pub(super) struct Buckets {
    pub(super) index: kv::Store,
    pub(super) leases: kv::Store,
    pub(super) nodes: kv::Store,
}

impl Buckets {
    pub(super) async fn open(client: &Client) -> Result<Self, SiteError> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_LIMIT);
        let make = |bucket: &str, max_age, storage| kv::Config {
            bucket: bucket.to_owned(),
            history: 1,
            max_age,
            storage,
            description: "Peernix: see docs/sites.md".to_owned(),
            ..kv::Config::default()
        };
        let [index, leases, nodes] = [
            make(INDEX, INDEX_KEPT, StorageType::File),
            make(LEASES, LIFE, StorageType::Memory),
            make(NODES, NODE_KEPT, StorageType::Memory),
        ];
        Ok(Self {
            index: open_or_make(&context, index).await?,
            leases: open_or_make(&context, leases).await?,
            nodes: open_or_make(&context, nodes).await?,
        })
    }
}

/// Somebody may have made it, an administrator perhaps, with other limits than ours.
async fn open_or_make(context: &jetstream::Context, config: kv::Config) -> Result<kv::Store, SiteError> {
    if let Ok(store) = context.get_key_value(&config.bucket).await {
        return Ok(store);
    }
    let name = config.bucket.clone();
    match context.create_key_value(config).await {
        Ok(store) => Ok(store),
        // Another machine was first, perhaps.
        Err(error) => context
            .get_key_value(&name)
            .await
            .map_err(|_| SiteError::Nats(format!("the bucket {name} cannot be made: {error}; JetStream has to be on"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_file_or_a_seed_and_never_printed() {
        let seed = "SUACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let credential = Credential::new(format!("{seed}\n").as_bytes()).unwrap();
        assert!(credential.is_seed() && !format!("{credential:?}").contains("SUAC"));
        let seed = nkeys::KeyPair::new_user().seed().unwrap();
        let file = format!(
            "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        );
        // With and without an end of the last line, and with what its own tool writes after it.
        for file in [file.clone(), format!("{file}\n"), format!("{file}\n\n*****\n"), file.replace('\n', "\r\n")] {
            assert!(!Credential::new(file.as_bytes()).unwrap().is_seed(), "{file:?}");
        }
        let cut_off = file.replace(&seed[..10], "hunter2");
        for other in [&b"hunter2"[..], b"", b"SU hunter2", &[0xff], cut_off.as_bytes()] {
            let error = Credential::new(other).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
