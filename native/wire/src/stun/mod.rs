//! STUN as ICE uses it: binding requests and responses (RFC 8489, RFC 8445 section 16).
//!
//! ```text
//! |0 0|  class and method (14)    |  length of attributes         |
//! |                  magic cookie 0x2112A442                      |
//! |                  transaction id (96 bits)                     |
//! ```
//!
//! The crate has no cryptography: HMAC-SHA1 comes from the caller as `hmac(key, parts)`, where the parts are to be
//! hashed one after the other. MESSAGE-INTEGRITY covers the message up to itself but with a length field that counts
//! itself, which is why the header is passed as a part of its own.

mod address;
mod crc32;
mod format;
mod write;

pub use format::{HEADER_LEN, TransactionId};
pub use write::{BindingRequest, IceRole, write_binding_error, write_binding_request, write_binding_success};

use std::net::SocketAddr;

use crate::WireError;
use crate::bytes::{u16_at, u32_at};
use format::{
    ERROR_CODE, FINGERPRINT, FINGERPRINT_XOR, ICE_CONTROLLED, ICE_CONTROLLING, MAGIC, MESSAGE_INTEGRITY, PRIORITY,
    USE_CANDIDATE, USERNAME, XOR_MAPPED_ADDRESS, integrity_header,
};

/// Longest username accepted (RFC 8489 section 14.3: fewer than 509 bytes).
pub const MAX_USERNAME_LEN: usize = 508;

/// Message class (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none; keeps a binding alive.
    Indication,
    /// Positive answer.
    Success,
    /// Negative answer.
    Error,
}

/// The only method ICE uses.
pub const METHOD_BINDING: u16 = 1;

/// A parsed STUN message. Attributes after MESSAGE-INTEGRITY are ignored except FINGERPRINT (RFC 8489 section 14.5).
#[derive(Clone, Debug)]
pub struct Message<'a> {
    raw: &'a [u8],
    /// Class.
    pub class: Class,
    /// Method; see [`METHOD_BINDING`].
    pub method: u16,
    /// Transaction id.
    pub transaction_id: TransactionId,
    /// USERNAME: `receiver-ufrag:sender-ufrag` in a connectivity check.
    pub username: Option<&'a str>,
    /// PRIORITY the sender gives a peer-reflexive candidate.
    pub priority: Option<u32>,
    /// USE-CANDIDATE: the controlling side nominates this pair.
    pub use_candidate: bool,
    /// ICE-CONTROLLING with its tie-breaker.
    pub ice_controlling: Option<u64>,
    /// ICE-CONTROLLED with its tie-breaker.
    pub ice_controlled: Option<u64>,
    /// XOR-MAPPED-ADDRESS of a response.
    pub mapped_address: Option<SocketAddr>,
    /// ERROR-CODE of an error response, 300..=699.
    pub error_code: Option<u16>,
    /// A FINGERPRINT was present (and correct, or parsing had failed).
    pub has_fingerprint: bool,
    integrity_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads one message that fills `datagram` exactly.
    ///
    /// Errors: `Truncated`, `Version` (wrong magic cookie), `Length`, `Value` (a malformed attribute), `Integrity` (a
    /// FINGERPRINT that does not match).
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, WireError> {
        if datagram.len() < HEADER_LEN {
            return Err(WireError::Truncated);
        }
        let message_type = u16_at(datagram, 0)?;
        if message_type >> 14 != 0 || u32_at(datagram, 4)? != MAGIC {
            return Err(WireError::Version);
        }
        let len = u16_at(datagram, 2)? as usize;
        if !len.is_multiple_of(4) || HEADER_LEN + len != datagram.len() {
            return Err(WireError::Length);
        }
        let mut transaction_id = TransactionId::default();
        transaction_id.0.copy_from_slice(&datagram[8..20]);
        let (class, method) = split_type(message_type);
        let mut message = Message {
            raw: datagram,
            class,
            method,
            transaction_id,
            username: None,
            priority: None,
            use_candidate: false,
            ice_controlling: None,
            ice_controlled: None,
            mapped_address: None,
            error_code: None,
            has_fingerprint: false,
            integrity_at: None,
        };
        message.read_attributes()?;
        Ok(message)
    }

    fn read_attributes(&mut self) -> Result<(), WireError> {
        let raw = self.raw;
        let mut at = HEADER_LEN;
        while at < raw.len() {
            let kind = u16_at(raw, at)?;
            let len = u16_at(raw, at + 2)? as usize;
            let value = raw.get(at + 4..at + 4 + len).ok_or(WireError::Length)?;
            if kind == FINGERPRINT {
                self.check_fingerprint(at, value)?;
            } else if self.integrity_at.is_none() {
                self.read_attribute(kind, value, at)?;
            }
            at += 4 + len.next_multiple_of(4);
        }
        Ok(())
    }

    fn read_attribute(&mut self, kind: u16, value: &'a [u8], at: usize) -> Result<(), WireError> {
        // The first of several attributes of a kind counts (RFC 8489 section 14).
        match kind {
            USERNAME if self.username.is_none() => {
                if value.len() > MAX_USERNAME_LEN {
                    return Err(WireError::Value);
                }
                self.username = Some(std::str::from_utf8(value).map_err(|_| WireError::Value)?);
            }
            MESSAGE_INTEGRITY => {
                if value.len() != 20 {
                    return Err(WireError::Value);
                }
                self.integrity_at = Some(at);
            }
            PRIORITY if self.priority.is_none() => self.priority = Some(exact_u32(value)?),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING if self.ice_controlling.is_none() => self.ice_controlling = Some(exact_u64(value)?),
            ICE_CONTROLLED if self.ice_controlled.is_none() => self.ice_controlled = Some(exact_u64(value)?),
            XOR_MAPPED_ADDRESS if self.mapped_address.is_none() => {
                self.mapped_address = Some(address::parse(value, &self.transaction_id)?);
            }
            ERROR_CODE if self.error_code.is_none() => {
                let [_, _, class, number, ..] = *value else { return Err(WireError::Value) };
                let class = (class & 7) as u16;
                if !(3..=6).contains(&class) || number > 99 {
                    return Err(WireError::Value);
                }
                self.error_code = Some(100 * class + number as u16);
            }
            // Repeated, or of no use to ICE.
            _ => {}
        }
        Ok(())
    }

    /// FINGERPRINT must be the last attribute and covers all before it.
    fn check_fingerprint(&mut self, at: usize, value: &[u8]) -> Result<(), WireError> {
        if at + 8 != self.raw.len() {
            return Err(WireError::Length);
        }
        if exact_u32(value)? != crc32::crc32(&self.raw[..at]) ^ FINGERPRINT_XOR {
            return Err(WireError::Integrity);
        }
        self.has_fingerprint = true;
        Ok(())
    }

    /// Verifies MESSAGE-INTEGRITY with the short-term `key` (the ICE password). False when the attribute is absent.
    /// The comparison takes the same time wherever the values differ.
    pub fn check_integrity(&self, key: &[u8], hmac: impl Fn(&[u8], &[&[u8]]) -> [u8; 20]) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let header = integrity_header(self.raw, at);
        let expected = hmac(key, &[&header, &self.raw[4..at]]);
        let given = &self.raw[at + 4..at + 24];
        expected.iter().zip(given).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

/// Class bits 4 and 8 are interleaved with the method's twelve bits.
fn split_type(t: u16) -> (Class, u16) {
    let class = match (t & 0x100 != 0, t & 0x10 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (class, t & 0xf | t >> 1 & 0x70 | t >> 2 & 0xf80)
}

fn exact_u32(value: &[u8]) -> Result<u32, WireError> {
    Ok(u32::from_be_bytes(value.try_into().map_err(|_| WireError::Value)?))
}

fn exact_u64(value: &[u8]) -> Result<u64, WireError> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| WireError::Value)?))
}
