//! [`Dtls`] on the `dimpl` crate, in DTLS 1.2.
//!
//! DTLS 1.2 and not 1.3, because dimpl's 1.3 server takes the client's first SRTP profile, which for browsers is
//! AES-CM with HMAC-SHA1: twice the cost of GCM per packet. Its 1.2 server prefers GCM.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{Config, Output};

use super::{Certificate, Connected, Dtls, DtlsError, DtlsOutput, Fingerprint, MAX_DATA_LEN, Role};
use crate::srtp::{MasterKey, Profile};

/// First retransmission of a flight. dimpl starts with a second, which a lost datagram would add to a join; the path
/// has been measured by STUN checks by now, and is rarely slower than this.
const FLIGHT_RTO: Duration = Duration::from_millis(250);
/// Retransmissions of a flight, doubling: 0.25 + 0.5 + ... + 8 s.
const FLIGHT_RETRIES: usize = 6;
/// The whole handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest datagram the handshake makes, so that it fits the minimum IPv6 MTU.
const HANDSHAKE_MTU: usize = 1200;
/// What waits for [`Dtls::poll`]: datagrams and received data. Beyond it, datagrams are dropped as a network would. A
/// whole SCTP window (1 MiB) fits, so that a caller may encrypt one before it sends.
const MAX_QUEUE: usize = 1024;

/// A [`Dtls`] endpoint on `dimpl`.
///
/// The engine is drained into a queue of our own after each call. It treats full queues as fatal, so a caller that
/// fed it a burst before polling would otherwise lose the connection; and one guarded place sees all its output.
pub struct DimplDtls {
    role: Role,
    /// `None` once failed, or closed and drained.
    engine: Option<dimpl::Dtls>,
    queue: VecDeque<Queued>,
    /// What [`Dtls::poll`] lends out.
    current: Vec<u8>,
    timeout: Option<Instant>,
    /// dimpl wants time that never runs backwards.
    now: Instant,
    handshake: Handshake,
    ended: bool,
}

/// The three parts of [`Connected`], which the engine yields one by one.
#[derive(Default)]
struct Handshake {
    fingerprint: Option<Fingerprint>,
    keys: Option<(MasterKey, MasterKey)>,
    engine_connected: bool,
    connected: bool,
}

enum Queued {
    Packet(Vec<u8>),
    Data(Vec<u8>),
    Connected(Box<Connected>),
    Closed,
    Failed(DtlsError),
}

impl DimplDtls {
    /// An endpoint that waits for a ClientHello (server) or sends one with the first [`Dtls::poll`] (client).
    pub fn new(role: Role, certificate: &Certificate, now: Instant) -> Self {
        let mut engine = dimpl::Dtls::new_12(config(), certificate.inner.clone(), now);
        engine.set_active(role == Role::Client);
        let mut this = Self {
            role,
            engine: Some(engine),
            queue: VecDeque::new(),
            current: Vec::new(),
            timeout: None,
            now,
            handshake: Handshake::default(),
            ended: false,
        };
        this.run(now, |engine| engine.handle_timeout(now));
        this
    }

    /// Lets `act` work on the engine and collects what comes of it.
    fn run(&mut self, now: Instant, act: impl FnOnce(&mut dimpl::Dtls) -> Result<(), dimpl::Error>) {
        self.now = self.now.max(now);
        let now = self.now;
        let Some(mut engine) = self.engine.take() else { return };
        // The engine parses what anyone can send. Should it panic, one connection ends and not a shard of them; it is
        // dropped then, so no broken state is seen again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let result = engine.handle_timeout(now).and_then(|()| act(&mut engine));
            // Also after an error: the alert that tells the peer why may wait there.
            self.drain(&mut engine);
            (engine, result)
        }));
        match outcome {
            Ok((engine, Ok(()))) => {
                if engine.is_closed() {
                    self.end(Queued::Closed);
                }
                if !self.ended {
                    self.engine = Some(engine);
                }
            }
            Ok((_, Err(dimpl::Error::ConnectionClosed))) => self.end(Queued::Closed),
            Ok((_, Err(dimpl::Error::Timeout(_)))) => self.end(Queued::Failed(DtlsError::HandshakeTimeout)),
            Ok((_, Err(error))) => self.end(Queued::Failed(DtlsError::Protocol(error.to_string()))),
            Err(panic) => self.end(Queued::Failed(DtlsError::Internal(panic_text(&*panic)))),
        }
    }

    /// Moves the engine's output into the queue.
    fn drain(&mut self, engine: &mut dimpl::Dtls) {
        // On the stack, because thousands of idle peers should not hold a buffer each. Large records are rare.
        let mut stack = [0; 2048];
        let mut heap = Vec::new();
        loop {
            let buffer = if heap.is_empty() { &mut stack[..] } else { &mut heap[..] };
            match engine.poll_output(buffer) {
                Output::Packet(packet) => self.push(Queued::Packet(packet.to_vec())),
                Output::ApplicationData(data) => self.push(Queued::Data(data.to_vec())),
                Output::BufferTooSmall { needed } => heap.resize(needed, 0),
                Output::PeerCert(der) => self.handshake.fingerprint = Some(Fingerprint::of_certificate(der)),
                Output::KeyingMaterial(material, profile) => {
                    self.handshake.keys = profile_of(profile).and_then(|profile| split(profile, &material, self.role));
                }
                Output::Connected => self.handshake.engine_connected = true,
                Output::CloseNotify => self.end(Queued::Closed),
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    break;
                }
                // dimpl may add kinds of output; none that exists today gets here.
                other => log::debug!("DTLS output ignored: {other:?}"),
            }
            self.report_connected();
        }
        if self.handshake.engine_connected && !self.handshake.connected && !self.ended {
            // Without keys or a certificate this connection is of no use to WebRTC (RFC 8827, 6.5).
            self.end(Queued::Failed(DtlsError::NoKeys));
        }
    }

    fn report_connected(&mut self) {
        let Handshake { fingerprint: Some(remote_fingerprint), keys, engine_connected: true, connected: false } =
            &mut self.handshake
        else {
            return;
        };
        let Some((local, remote)) = keys.take() else { return };
        let remote_fingerprint = *remote_fingerprint;
        self.handshake.connected = true;
        self.queue.push_back(Queued::Connected(Box::new(Connected { local, remote, remote_fingerprint })));
    }

    /// Queues a datagram in either direction, or drops it.
    fn push(&mut self, item: Queued) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.push_back(item);
        } else {
            log::debug!("DTLS queue full, datagram dropped");
        }
    }

    fn end(&mut self, item: Queued) {
        if !self.ended {
            self.ended = true;
            self.queue.push_back(item);
        }
    }
}

impl Dtls for DimplDtls {
    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        // dimpl asks for the time before each packet; `run` tells it.
        self.run(now, |engine| engine.handle_packet(packet));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.run(now, |_| Ok(()));
    }

    fn poll(&mut self, now: Instant) -> DtlsOutput<'_> {
        self.now = self.now.max(now);
        match self.queue.pop_front() {
            Some(Queued::Packet(packet)) => {
                self.current = packet;
                DtlsOutput::Packet(&self.current)
            }
            Some(Queued::Data(data)) => {
                self.current = data;
                DtlsOutput::Data(&self.current)
            }
            Some(Queued::Connected(connected)) => DtlsOutput::Connected(connected),
            Some(Queued::Closed) => DtlsOutput::Closed,
            Some(Queued::Failed(error)) => DtlsOutput::Failed(error),
            None => DtlsOutput::Timeout(self.timeout.filter(|_| !self.ended)),
        }
    }

    fn send(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsError> {
        if self.ended {
            return Err(DtlsError::Closed);
        }
        if !self.handshake.connected {
            return Err(DtlsError::NotConnected);
        }
        if data.len() > MAX_DATA_LEN {
            return Err(DtlsError::TooLarge);
        }
        if self.queue.len() >= MAX_QUEUE {
            return Err(DtlsError::QueueFull);
        }
        self.run(now, |engine| engine.send_application_data(data).map(|_| ()));
        if self.ended { Err(DtlsError::Closed) } else { Ok(()) }
    }

    fn close(&mut self) {
        let now = self.now;
        self.run(now, |engine| engine.close());
        // The engine reports its own end only if it got to the handshake; a waiting server is simply over.
        self.end(Queued::Closed);
        self.engine = None;
    }

    fn is_connected(&self) -> bool {
        self.handshake.connected && !self.ended
    }
}

/// The configuration, one for the whole process: building it validates the crypto provider.
fn config() -> Arc<Config> {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let config = Config::builder()
                .mtu(HANDSHAKE_MTU)
                // A STUN check with message integrity has proven the peer's address; a cookie would only cost a round trip.
                .use_server_cookie(false)
                .flight_start_rto(FLIGHT_RTO)
                .flight_retries(FLIGHT_RETRIES)
                .handshake_timeout(HANDSHAKE_TIMEOUT)
                .max_queue_tx(64)
                .max_queue_rx(64)
                .build();
            Arc::new(config.expect("constants make a valid DTLS configuration"))
        })
        .clone()
}

fn profile_of(profile: dimpl::SrtpProfile) -> Option<Profile> {
    match profile {
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::Aes128CmSha1_80),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        _ => None,
    }
}

/// Splits exported keying material (client key, server key, client salt, server salt: RFC 5764, 4.2) into the local
/// and the remote master key.
fn split(profile: Profile, material: &[u8], role: Role) -> Option<(MasterKey, MasterKey)> {
    let (key, salt) = (profile.key_len(), profile.salt_len());
    if material.len() < 2 * (key + salt) {
        return None;
    }
    let (keys, salts) = material.split_at(2 * key);
    let client = MasterKey::new(profile, &keys[..key], &salts[..salt]).ok()?;
    let server = MasterKey::new(profile, &keys[key..], &salts[salt..2 * salt]).ok()?;
    Some(match role {
        Role::Client => (client, server),
        Role::Server => (server, client),
    })
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic").to_owned()
}
