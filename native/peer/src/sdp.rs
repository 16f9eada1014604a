//! What str0m's SDP needs to be the SDP of a LiveKit client, and what servers write that str0m does not read.

/// Our own offers and answers. Sections that do not send must not name a stream (`a=msid`, `a=ssrc`), or a server takes
/// them for published tracks. `preferred` tells the codec that a section (by mid) is to list first: servers take it for
/// the one that will be sent. Sound lists plain Opus first unless told otherwise.
pub fn tidy_local(sdp: &str, preferred: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(sdp.len());
    for section in sections(sdp) {
        let sends = section.iter().any(|line| matches!(*line, "a=sendonly" | "a=sendrecv"));
        let first = section.first().copied().unwrap_or_default();
        let media = first.starts_with("m=audio") || first.starts_with("m=video");
        let mid = section.iter().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default();
        let codec = preferred(mid).or(first.starts_with("m=audio").then_some("opus"));
        for (index, line) in section.iter().enumerate() {
            let names_stream = ["a=msid:", "a=ssrc:", "a=ssrc-group:"].iter().any(|prefix| line.starts_with(prefix));
            if media && !sends && names_stream {
                continue;
            }
            match codec.filter(|_| media && index == 0) {
                Some(codec) => out.push_str(&reordered(line, &section, codec)),
                None => out.push_str(line),
            }
            out.push_str("\r\n");
        }
    }
    out
}

/// The `m=` line with the payload types of `codec`, and of their retransmissions, in front.
fn reordered(line: &str, section: &[&str], codec: &str) -> String {
    let is_codec = |pt: &str| {
        section.iter().any(|line| {
            let map = line.strip_prefix("a=rtpmap:").and_then(|rest| rest.split_once(' '));
            map.is_some_and(|(number, name)| {
                number == pt && name.split('/').next().is_some_and(|name| name.eq_ignore_ascii_case(codec))
            })
        })
    };
    let belongs = |pt: &str| {
        let repaired = section.iter().find_map(|line| {
            line.strip_prefix("a=fmtp:")?
                .strip_prefix(pt)?
                .strip_prefix(' ')?
                .split(';')
                .find_map(|p| p.strip_prefix("apt="))
        });
        is_codec(repaired.unwrap_or(pt))
    };
    let words: Vec<&str> = line.split(' ').collect();
    let (head, types) = words.split_at(words.len().min(3));
    let (first, rest): (Vec<&str>, Vec<&str>) = types.iter().partition(|pt| belongs(pt));
    [head, &first, &rest].concat().join(" ")
}

/// A remote description with what cannot be used taken out: candidates that are not plain UDP addresses. In an offer
/// the other side is taken as the DTLS server when it leaves the choice, because the server's choice of cipher is the
/// faster one.
pub fn tidy_remote(sdp: &str, is_offer: bool) -> String {
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if let Some(candidate) = line.strip_prefix("a=")
            && candidate.starts_with("candidate:")
            && usable_candidate(candidate).is_none()
        {
            continue;
        }
        let line = if is_offer && line == "a=setup:actpass" { "a=setup:passive" } else { line };
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}

/// A remote offer whose media sections ask no more of us than we do: `takes_part` says by mid whether we send and receive.
pub fn restrict(offer: &str, takes_part: impl Fn(&str) -> (bool, bool)) -> String {
    let mut out = String::with_capacity(offer.len());
    for section in sections(offer) {
        let first = section.first().copied().unwrap_or_default();
        let media = first.starts_with("m=audio") || first.starts_with("m=video");
        let mid = section.iter().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default();
        let named = section.iter().any(|line| direction(line).is_some());
        let (we_send, we_receive) = takes_part(mid);
        let allowed = |(sends, receives): (bool, bool)| match (sends && we_receive, receives && we_send) {
            (true, true) => "a=sendrecv",
            (true, false) => "a=sendonly",
            (false, true) => "a=recvonly",
            (false, false) => "a=inactive",
        };
        for line in &section {
            out.push_str(direction(line).filter(|_| media).map_or(*line, allowed));
            out.push_str("\r\n");
        }
        if media && !named {
            // Without a direction a section does both.
            out.push_str(allowed((true, true)));
            out.push_str("\r\n");
        }
    }
    out
}

/// Whether the other side sends and receives, when the line says so.
fn direction(line: &str) -> Option<(bool, bool)> {
    match line {
        "a=sendrecv" => Some((true, true)),
        "a=sendonly" => Some((true, false)),
        "a=recvonly" => Some((false, true)),
        "a=inactive" => Some((false, false)),
        _ => None,
    }
}

/// Our own description with the streams of some sections (by mid) named anew: `a=msid` and `a=ssrc:N msid`.
pub fn rename_streams<'a>(sdp: &str, name: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(sdp.len());
    for section in sections(sdp) {
        let mid = section.iter().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default();
        let name = name(mid);
        for line in &section {
            let head = match line.split_once(" msid:") {
                _ if line.starts_with("a=msid:") => Some("a=msid:".to_owned()),
                Some((ssrc, _)) if ssrc.starts_with("a=ssrc:") => Some(format!("{ssrc} msid:")),
                _ => None,
            };
            match (head, name) {
                (Some(head), Some(name)) => out.extend([head.as_str(), name]),
                _ => out.push_str(line),
            }
            out.push_str("\r\n");
        }
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
    fn the_codec_that_is_sent_comes_first() {
        let video = "m=video 9 X 96 97 109 114 103 104\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
                     a=fmtp:97 apt=96\r\na=rtpmap:109 H264/90000\r\na=fmtp:109 a=1;b=2\r\na=fmtp:114 apt=109\r\n\
                     a=rtpmap:103 H264/90000\r\na=fmtp:104 apt=103\r\n";
        let tidied = tidy_local(video, |mid| (mid == "v").then_some("H264"));
        assert!(tidied.starts_with("m=video 9 X 109 114 103 104 96 97\r\n"), "{tidied}");
        assert_eq!(tidy_local(video, |_| None), video);
        let audio = "m=audio 9 X 63 111\r\na=mid:a\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n";
        assert!(tidy_local(audio, |_| None).starts_with("m=audio 9 X 111 63\r\n"));
        assert_eq!(tidy_local(audio, |_| Some("red")), audio);
    }

    #[test]
    fn an_offer_asks_no_more_than_we_give() {
        let offer = "v=0\r\nm=audio 9 X 111\r\na=mid:a\r\na=sendrecv\r\nm=video 9 X 96\r\na=mid:v\r\n";
        let restricted = |part: (bool, bool)| {
            let sdp = restrict(offer, |_| part);
            sdp.lines().filter(|line| direction(line).is_some()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(restricted((true, true)), ["a=sendrecv", "a=sendrecv"]);
        assert_eq!(restricted((false, true)), ["a=sendonly", "a=sendonly"]);
        assert_eq!(restricted((true, false)), ["a=recvonly", "a=recvonly"]);
        assert_eq!(restricted((false, false)), ["a=inactive", "a=inactive"]);
    }

    #[test]
    fn streams_are_renamed_where_asked() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=mid:a\r\na=msid:x y\r\na=ssrc:1 cname:y\r\na=ssrc:1 msid:x y\r\n";
        let renamed = rename_streams(sdp, |mid| (mid == "a").then_some("s t"));
        assert!(renamed.ends_with("a=msid:s t\r\na=ssrc:1 cname:y\r\na=ssrc:1 msid:s t\r\n"), "{renamed}");
        assert_eq!(rename_streams(sdp, |_| None), sdp);
    }

    #[test]
    fn silent_sections_name_no_stream() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=msid:a b\r\na=recvonly\r\na=ssrc:1 cname:x\r\n\
                   m=video 9 X 96\r\na=msid:c d\r\na=sendonly\r\na=ssrc:2 cname:x\r\n";
        assert_eq!(
            tidy_local(sdp, |_| None),
            "v=0\r\nm=audio 9 X 111\r\na=recvonly\r\nm=video 9 X 96\r\na=msid:c d\r\na=sendonly\r\na=ssrc:2 cname:x\r\n"
        );
    }
}
