//! Connectivity checks on one candidate pair (RFC 8445), in either role, against a full or a lite agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenroom_secure::mac::hmac_sha1;
use greenroom_wire::stun::{
    BindingRequest, Class, IceRole, METHOD_BINDING, Message, TransactionId, write_binding_request,
    write_binding_success,
};

use crate::outbox::Outbox;
use crate::random::Random;

/// Between checks until one is answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Between checks on a working pair: well within the 5 s of consent freshness (RFC 7675).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// PRIORITY of a host candidate (RFC 8445, 5.1.2) as the only one of its component.
const PRIORITY: u32 = 0x6e7f_ffff;
/// Answers are accepted to this many of the newest checks.
const REMEMBERED: usize = 4;

/// The credentials of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

/// The checks of one pair.
#[derive(Debug)]
pub struct Ice {
    local: Credentials,
    remote: Credentials,
    username: String,
    role: IceRole,
    /// The address the other side is reached at; what it sees us at is its own business.
    address: SocketAddr,
    recent: [TransactionId; REMEMBERED],
    sent: usize,
    /// A check of ours was answered.
    answered: bool,
    /// The other side, if it controls, has chosen this pair. Before that it may take no DTLS, and a lost ClientHello costs
    /// a second.
    nominated: bool,
    next_check: Instant,
}

impl Ice {
    /// Starts checking at once. The controlling side nominates with every check.
    pub(crate) fn new(
        now: Instant,
        local: Credentials,
        remote: Credentials,
        address: SocketAddr,
        controlling: bool,
        random: &mut Random,
    ) -> Self {
        let tie_breaker = random.next();
        Self {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            role: if controlling { IceRole::Controlling(tie_breaker) } else { IceRole::Controlled(tie_breaker) },
            local,
            remote,
            address,
            recent: Default::default(),
            sent: 0,
            answered: false,
            nominated: controlling,
            next_check: now,
        }
    }

    /// The pair can be used.
    pub fn is_valid(&self) -> bool {
        self.answered && self.nominated
    }

    /// When the next check is due.
    pub fn next_timeout(&self) -> Instant {
        self.next_check
    }

    /// Sends a check when one is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, random: &mut Random, out: &mut Outbox) {
        if now < self.next_check {
            return;
        }
        self.next_check = now + if self.answered { KEEPALIVE_INTERVAL } else { CHECK_INTERVAL };
        let transaction_id = TransactionId(random.bytes());
        self.recent[self.sent % REMEMBERED] = transaction_id;
        self.sent += 1;
        let request = BindingRequest {
            transaction_id,
            username: &self.username,
            priority: PRIORITY,
            role: self.role,
            use_candidate: matches!(self.role, IceRole::Controlling(_)),
        };
        let mut buf = [0; 640];
        if let Ok(len) = write_binding_request(&mut buf, &request, self.remote.pwd.as_bytes(), hmac_sha1) {
            out.push(&buf[..len]);
        }
    }

    /// Takes a STUN message. Requests with our password are answered, answers to recent checks make the pair valid;
    /// anything else is dropped.
    pub fn handle_stun(&mut self, datagram: &[u8], out: &mut Outbox) {
        let Ok(message) = Message::parse(datagram) else { return };
        if message.method != METHOD_BINDING {
            return;
        }
        match message.class {
            Class::Request if message.check_integrity(self.local.pwd.as_bytes(), hmac_sha1) => {
                self.nominated |= message.use_candidate;
                let (mut buf, key) = ([0; 128], self.local.pwd.as_bytes());
                let id = message.transaction_id;
                if let Ok(len) = write_binding_success(&mut buf, id, self.address, key, hmac_sha1) {
                    out.push(&buf[..len]);
                }
            }
            Class::Success
                if self.recent[..self.sent.min(REMEMBERED)].contains(&message.transaction_id)
                    && message.check_integrity(self.remote.pwd.as_bytes(), hmac_sha1) =>
            {
                self.answered = true;
            }
            _ => {}
        }
    }
}
