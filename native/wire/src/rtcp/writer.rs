//! Writing compound packets.

use super::format::{BYE, FMT_AFB, FMT_FIR, FMT_NACK, FMT_PLI, FMT_TWCC, PSFB, RR, RTPFB, SDES, SR, XR};
use super::remb;
use super::report::{ReportBlock, SenderInfo};
use super::twcc::{self, TwccHeader};
use super::xr::{self, DlrrEntry};
use crate::bytes::Writer;
use crate::{Ssrc, WireError};

/// Appends RTCP packets to the caller's buffer. A packet that does not fit or is refused leaves nothing behind, so the
/// builder can be sent as it is and the packet tried again in the next compound.
///
/// ```
/// use greenroom_wire::{Ssrc, rtcp};
/// let mut buf = [0; 64];
/// let mut builder = rtcp::Builder::new(&mut buf);
/// builder.receiver_report(Ssrc(1), &[])?.pli(Ssrc(1), Ssrc(2))?;
/// assert_eq!(builder.len(), 20);
/// # Ok::<(), greenroom_wire::WireError>(())
/// ```
pub struct Builder<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Builder<'a> {
    /// Starts an empty compound.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Builder { buf, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The compound so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    fn packet<R>(
        &mut self,
        count: usize,
        packet_type: u8,
        body: impl FnOnce(&mut Writer<'_>) -> Result<R, WireError>,
    ) -> Result<R, WireError> {
        if count > 31 {
            return Err(WireError::Value);
        }
        let mut w = Writer::new(&mut self.buf[self.len..]);
        w.u8(0x80 | count as u8)?;
        w.u8(packet_type)?;
        w.u16(0)?; // length, known below
        let result = body(&mut w)?;
        w.pad4()?;
        let len = w.len();
        let words = u16::try_from(len / 4 - 1).map_err(|_| WireError::Length)?;
        w.written()[2..4].copy_from_slice(&words.to_be_bytes());
        self.len += len;
        Ok(result)
    }

    /// SR with at most 31 report blocks.
    pub fn sender_report(&mut self, info: &SenderInfo, reports: &[ReportBlock]) -> Result<&mut Self, WireError> {
        self.packet(reports.len(), SR, |w| {
            w.u32(info.ssrc.0)?;
            w.put(&info.ntp.0.to_be_bytes())?;
            w.u32(info.rtp_timestamp)?;
            w.u32(info.packets)?;
            w.u32(info.octets)?;
            reports.iter().try_for_each(|r| r.write(w))
        })?;
        Ok(self)
    }

    /// RR with at most 31 report blocks.
    pub fn receiver_report(&mut self, ssrc: Ssrc, reports: &[ReportBlock]) -> Result<&mut Self, WireError> {
        self.packet(reports.len(), RR, |w| {
            w.u32(ssrc.0)?;
            reports.iter().try_for_each(|r| r.write(w))
        })?;
        Ok(self)
    }

    /// SDES with one chunk and its CNAME, at most 255 bytes.
    pub fn sdes_cname(&mut self, ssrc: Ssrc, cname: &str) -> Result<&mut Self, WireError> {
        let len = u8::try_from(cname.len()).map_err(|_| WireError::Value)?;
        self.packet(1, SDES, |w| {
            w.u32(ssrc.0)?;
            w.put(&[1, len])?;
            w.put(cname.as_bytes())?;
            w.u8(0)?; // end of the item list; at least one zero even when already aligned
            w.pad4()
        })?;
        Ok(self)
    }

    /// BYE of at most 31 sources, without a reason.
    pub fn bye(&mut self, ssrcs: &[Ssrc]) -> Result<&mut Self, WireError> {
        self.packet(ssrcs.len(), BYE, |w| ssrcs.iter().try_for_each(|s| w.u32(s.0)))?;
        Ok(self)
    }

    /// Generic NACK. `missing` in sending order (older first) gives the fewest pairs; any order is correct.
    ///
    /// Errors: `Value` when `missing` is empty.
    pub fn nack(
        &mut self,
        sender: Ssrc,
        media: Ssrc,
        missing: impl IntoIterator<Item = u16>,
    ) -> Result<&mut Self, WireError> {
        self.packet(FMT_NACK as usize, RTPFB, |w| {
            w.u32(sender.0)?;
            w.u32(media.0)?;
            let mut missing = missing.into_iter();
            let mut pid = missing.next().ok_or(WireError::Value)?;
            let mut blp = 0u16;
            for seq in missing {
                match seq.wrapping_sub(pid) {
                    0 => {}
                    n @ 1..=16 => blp |= 1 << (n - 1),
                    _ => {
                        w.u16(pid)?;
                        w.u16(blp)?;
                        (pid, blp) = (seq, 0);
                    }
                }
            }
            w.u16(pid)?;
            w.u16(blp)
        })?;
        Ok(self)
    }

    /// PLI.
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> Result<&mut Self, WireError> {
        self.packet(FMT_PLI as usize, PSFB, |w| {
            w.u32(sender.0)?;
            w.u32(media.0)
        })?;
        Ok(self)
    }

    /// FIR with one entry. Raise `sequence` by one for each new request.
    pub fn fir(&mut self, sender: Ssrc, target: Ssrc, sequence: u8) -> Result<&mut Self, WireError> {
        self.packet(FMT_FIR as usize, PSFB, |w| {
            w.u32(sender.0)?;
            w.u32(0)?;
            w.u32(target.0)?;
            w.put(&[sequence, 0, 0, 0])
        })?;
        Ok(self)
    }

    /// REMB over at most 255 streams.
    pub fn remb(&mut self, sender: Ssrc, bitrate_bps: u64, ssrcs: &[Ssrc]) -> Result<&mut Self, WireError> {
        let count = u8::try_from(ssrcs.len()).map_err(|_| WireError::Value)?;
        self.packet(FMT_AFB as usize, PSFB, |w| {
            w.u32(sender.0)?;
            w.u32(0)?;
            w.put(remb::NAME)?;
            w.u32((count as u32) << 24 | remb::pack_bitrate(bitrate_bps))?;
            ssrcs.iter().try_for_each(|s| w.u32(s.0))
        })?;
        Ok(self)
    }

    /// Transport-wide feedback. `arrivals[i]` is the arrival of packet `base_sequence + i` in microseconds of the
    /// receiver's clock, `None` when it has not arrived. Returns how many statuses the packet covers: the rest (after a
    /// jump in time the format cannot express) belongs in another packet.
    ///
    /// Errors: `Value` when nothing has arrived, `NoSpace` (see [`twcc_max_len`](super::twcc_max_len)).
    pub fn twcc(&mut self, header: &TwccHeader, arrivals: &[Option<i64>]) -> Result<usize, WireError> {
        self.packet(FMT_TWCC as usize, RTPFB, |w| twcc::write_body(w, header, arrivals))
    }

    /// XR with a DLRR block.
    pub fn xr_dlrr(&mut self, sender: Ssrc, entries: &[DlrrEntry]) -> Result<&mut Self, WireError> {
        let words = u16::try_from(entries.len() * 3).map_err(|_| WireError::Value)?;
        self.packet(0, XR, |w| {
            w.u32(sender.0)?;
            w.put(&[xr::DLRR, 0])?;
            w.u16(words)?;
            entries.iter().try_for_each(|e| {
                w.u32(e.ssrc.0)?;
                w.u32(e.last_rr)?;
                w.u32(e.delay_since_last_rr)
            })
        })?;
        Ok(self)
    }
}
