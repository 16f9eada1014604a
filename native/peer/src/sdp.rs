//! What str0m's SDP needs to be the SDP of a LiveKit client, and what servers write that str0m does not read.

/// Our own offers and answers: sections that do not send must not name a stream (`a=msid`, `a=ssrc`), or a server takes
/// them for published tracks.
pub fn tidy_local(sdp: &str) -> String {
    let mut out = String::with_capacity(sdp.len());
    for section in sections(sdp) {
        let sends = section.iter().any(|line| matches!(*line, "a=sendonly" | "a=sendrecv"));
        let media = section.first().is_some_and(|line| line.starts_with("m=audio") || line.starts_with("m=video"));
        for line in &section {
            let names_stream = ["a=msid:", "a=ssrc:", "a=ssrc-group:"].iter().any(|prefix| line.starts_with(prefix));
            if media && !sends && names_stream {
                continue;
            }
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out
}

/// A remote description with what cannot be used taken out: candidates that are not plain UDP addresses. In an offer
/// the other side is taken as the DTLS server when it leaves the choice, because the server's choice of cipher is the
/// faster one.
pub fn tidy_remote(sdp: &str, is_offer: bool) -> String {
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if let Some(candidate) = line.strip_prefix("a=") {
            if candidate.starts_with("candidate:") && usable_candidate(candidate).is_none() {
                continue;
            }
        }
        let line = if is_offer && line == "a=setup:actpass" { "a=setup:passive" } else { line };
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}

/// A `candidate:` attribute that can be tried: component 1, UDP, an IP address.
pub fn usable_candidate(attribute: &str) -> Option<&str> {
    let attribute = attribute.trim();
    let attribute = attribute.strip_prefix("a=").unwrap_or(attribute);
    let mut words = attribute.strip_prefix("candidate:")?.split_whitespace();
    let _foundation = words.next()?;
    let component = words.next()?;
    let transport = words.next()?;
    let _priority: u32 = words.next()?.parse().ok()?;
    let address: std::net::IpAddr = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    (component == "1" && transport.eq_ignore_ascii_case("udp") && port > 0 && !address.is_unspecified())
        .then_some(attribute)
}

/// Lines grouped: what is said for the session, then each section.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = vec![Vec::new()];
    for line in sdp.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates() {
        assert!(usable_candidate("candidate:1 1 udp 2130706431 127.0.0.1 41305 typ host").is_some());
        assert!(usable_candidate("a=candidate:1 1 UDP 2130706431 ::1 41305 typ host ufrag x").is_some());
        for bad in [
            "candidate:1 2 udp 2130706431 127.0.0.1 41305 typ host",
            "candidate:1 1 tcp 2130706431 127.0.0.1 7881 typ host tcptype passive",
            "candidate:1 1 udp 2130706431 abcd.local 41305 typ host",
            "candidate:1 1 udp x 127.0.0.1 41305 typ host",
            "candidate:1 1 udp 1 127.0.0.1",
            "",
        ] {
            assert!(usable_candidate(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn silent_sections_name_no_stream() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=msid:a b\r\na=recvonly\r\na=ssrc:1 cname:x\r\n\
                   m=video 9 X 96\r\na=msid:c d\r\na=sendonly\r\na=ssrc:2 cname:x\r\n";
        assert_eq!(
            tidy_local(sdp),
            "v=0\r\nm=audio 9 X 111\r\na=recvonly\r\nm=video 9 X 96\r\na=msid:c d\r\na=sendonly\r\na=ssrc:2 cname:x\r\n"
        );
    }
}
