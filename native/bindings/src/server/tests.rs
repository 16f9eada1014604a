//! What crosses between Python and the server, with a real interpreter: which values are refused, and what events and
//! figures look like.
use std::ffi::CString;

use greenroom_forward::{Event, Kind, PeerId, PeerStats, RoomId, StreamStats, TrackId};
use greenroom_shard::ServerEvent;
use pyo3::exceptions::{PyAttributeError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{MediaServer, convert};

/// Evaluates a Python expression. `R` makes an object of its keyword arguments.
fn eval<'py>(py: Python<'py>, expression: &str) -> Bound<'py, PyAny> {
    let globals = PyDict::new(py);
    py.run(c"from types import SimpleNamespace as R", Some(&globals), None).unwrap();
    py.eval(&CString::new(expression).unwrap(), Some(&globals), None).unwrap()
}

fn codec(changes: &str) -> String {
    format!("R(**dict(pt=96, name='vp8', clock_rate=90000, rtx_pt=97, fmtp='') | dict({changes}))")
}

fn receiver(changes: &str) -> String {
    let codec = codec("");
    format!(
        "R(**dict(track=7, mid='0', kind='video', codecs=[{codec}], extensions={{'urn:ietf:params:rtp-hdrext:sdes:mid': 4}}, \
         layers=[('q', 0), ('h', 1)], ssrcs=[(1, 2)], nack=True, transport_cc=True) | dict({changes}))"
    )
}

fn sender(changes: &str) -> String {
    format!(
        "R(**dict(mid='1', track=7, kind='audio', ssrc=5, rtx_ssrc=0, codecs=[], extensions={{}}, paused=False, \
         max_layer=2, max_temporal=3, stream='PA_x') | dict({changes}))"
    )
}

fn error<T>(py: Python<'_>, result: PyResult<T>) -> String {
    let error = result.err().expect("refused");
    assert!(error.is_instance_of::<PyValueError>(py), "{error}");
    error.value(py).to_string()
}

#[test]
fn a_section_on_which_a_peer_sends_is_read_whole() {
    Python::attach(|py| {
        let receiver = convert::receiver(&eval(py, &receiver(""))).unwrap();
        assert_eq!((receiver.track, receiver.mid.as_str(), receiver.kind), (TrackId(7), "0", Kind::Video));
        let codec = &receiver.codecs[0];
        assert_eq!((codec.pt, codec.name.as_str(), codec.clock_rate, codec.rtx_pt), (96, "vp8", 90_000, 97));
        assert_eq!(receiver.layers, [("q".to_owned(), 0), ("h".to_owned(), 1)]);
        assert_eq!(receiver.ssrcs, [(1, 2)]);
        assert!(receiver.nack && receiver.transport_cc);
    });
}

#[test]
fn a_section_on_which_we_send_is_read_whole() {
    Python::attach(|py| {
        let sender = convert::sender(&eval(py, &sender("max_layer=1, paused=True"))).unwrap();
        assert_eq!((sender.track, sender.ssrc, sender.kind), (TrackId(7), 5, Kind::Audio));
        assert_eq!((sender.max_layer, sender.max_temporal, sender.paused), (1, 3, true));
        assert_eq!(sender.cname, "PA_x");
    });
}

#[test]
fn values_that_do_not_fit_are_refused_in_words_that_name_them() {
    Python::attach(|py| {
        for (changes, words) in [
            ("track=-1", "track: "),
            ("track='x'", "track: "),
            ("mid=5", "mid: "),
            ("kind='text'", "kind is audio or video, not \"text\""),
            ("nack=None", "nack: "),
            (&format!("codecs=[{}]", codec("pt=128")), "codec vp8: payload types are 0..127"),
            (&format!("codecs=[{}]", codec("clock_rate=0")), "codec vp8: payload types are 0..127"),
            (&format!("codecs=[{}]", codec("pt=300")), "pt: "),
        ] {
            let text = error(py, convert::receiver(&eval(py, &receiver(changes))));
            assert!(text.starts_with(words), "{changes}: {text}");
        }
        let missing = convert::receiver(&eval(py, "R(track=7)")).err().unwrap();
        assert!(missing.is_instance_of::<PyAttributeError>(py) && missing.to_string().contains("mid"), "{missing}");
        for changes in
            ["layers=[('q', 256)]", "layers=5", "ssrcs=[(1, -2)]", "ssrcs=[1]", "extensions={'a': 300}", "codecs=1"]
        {
            assert!(convert::receiver(&eval(py, &receiver(changes))).is_err(), "{changes}");
        }
        for changes in ["ssrc=1 << 32", "max_layer='high'", "stream=None", "extensions=[]"] {
            assert!(convert::sender(&eval(py, &sender(changes))).is_err(), "{changes}");
        }
    });
}

#[test]
fn only_a_whole_sha_256_fingerprint_is_one() {
    let pairs = ["AB"; 32].join(":");
    assert_eq!(convert::fingerprint(&format!("sha-256 {pairs}")).unwrap(), [0xab; 32]);
    assert_eq!(convert::fingerprint(&format!(" SHA-256  {} ", pairs.to_lowercase())).unwrap(), [0xab; 32]);
    Python::attach(|py| {
        let signs = format!("sha-256 {}", ["+1"; 32].join(":"));
        for text in ["", "sha-256", "sha-1 AB:CD", &pairs, &format!("sha-256 {pairs}:AB"), &signs, "sha-256 ÄÄ:ÖÖ"]
        {
            let words = error(py, convert::fingerprint(text));
            assert_eq!(words, format!("not a sha-256 fingerprint: {text}"));
        }
    });
}

#[test]
fn events_are_tuples_as_the_interface_describes_them() {
    Python::attach(|py| {
        let peer = PeerId(3);
        let data = |binary| Event::Data { peer, label: "_reliable".into(), payload: b"hi".to_vec(), binary };
        let core = [
            (Event::Connected(peer), "('connected', 3)"),
            (Event::Failed(peer, "no".to_owned()), "('failed', 3, 'no')"),
            (Event::Disconnected(peer), "('disconnected', 3)"),
            (Event::Reconnected(peer), "('reconnected', 3)"),
            (Event::Lost(peer), "('lost', 3)"),
            (Event::Track { track: TrackId(7), layer: 2, ssrc: 9, pt: 96 }, "('track', 7, 2, 9, 96)"),
            (data(true), "('data', 3, '_reliable', b'hi', True)"),
            (data(false), "('data', 3, '_reliable', b'hi', False)"),
            (Event::ChannelOpen { peer, label: "chat".into() }, "('channel', 3, 'chat')"),
            (
                Event::Speakers { room: RoomId(1), changes: vec![(TrackId(7), 0.5, true)] },
                "('speakers', 1, [(7, 0.5, True)])",
            ),
            (Event::Dropped { peer, label: "_lossy".into(), count: 4 }, "('dropped', 3, '_lossy', 4)"),
        ];
        let reason = || "why".to_owned();
        let of_server = [
            (ServerEvent::Unread { peer, count: 5 }, "('unread', 3, 5)"),
            (ServerEvent::ShardRestarted { shard: 1, reason: reason() }, "('shard_restarted', 1, 'why')"),
            (ServerEvent::ShardFailed { shard: 0, reason: reason() }, "('shard_failed', 0, 'why')"),
            (ServerEvent::ShardStuck { shard: 2, reason: reason() }, "('shard_stuck', 2, 'why')"),
        ];
        let core = core.into_iter().map(|(event, text)| (ServerEvent::Core(event), text));
        for (event, text) in core.chain(of_server) {
            let tuple: Bound<'_, PyTuple> = convert::event(py, event).unwrap();
            assert_eq!(tuple.repr().unwrap().to_string(), text);
        }
    });
}

#[test]
fn a_snapshot_is_a_dictionary() {
    Python::attach(|py| {
        let stream = StreamStats {
            track: 7,
            inbound: true,
            layer: 1,
            ssrc: 9,
            packets: 10,
            bytes: 1000,
            lost: -1,
            jitter_ms: 0.5,
            fraction_lost: 0.25,
        };
        let stats = PeerStats { rtt_ms: Some(12.5), streams: vec![stream] };
        let dict = convert::stats(py, &stats).unwrap();
        assert_eq!(dict.get_item("rtt_ms").unwrap().unwrap().repr().unwrap().to_string(), "12.5");
        let expected = "[{'track': 7, 'inbound': True, 'layer': 1, 'ssrc': 9, 'packets': 10, 'bytes': 1000, \
                        'lost': -1, 'jitter_ms': 0.5, 'fraction_lost': 0.25}]";
        assert_eq!(dict.get_item("tracks").unwrap().unwrap().repr().unwrap().to_string(), expected);
    });
}

#[test]
fn a_server_that_cannot_start_says_why() {
    Python::attach(|py| {
        let start_waiting = |bind: &[&str], port, shards, stuck_after, audio_wait| {
            let bind = bind.iter().map(|text| (*text).to_owned()).collect();
            MediaServer::new(py, bind, port, shards, stuck_after, audio_wait)
        };
        let start = |bind: &[&str], port, shards, stuck_after| start_waiting(bind, port, shards, stuck_after, 0.0);
        assert_eq!(error(py, start(&["localhost"], 0, 1, 5.0)), "not an IP address: localhost");
        assert!(error(py, start(&[], 0, 1, 5.0)).starts_with("bind needs at least one address"));
        assert!(error(py, start(&["127.0.0.1"], 0, 257, 5.0)).contains("shards is 1 to 256"));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(error(py, start(&["127.0.0.1"], 0, 1, seconds)).starts_with("stuck_after is"));
        }
        for seconds in [-0.001, 0.006, f64::NAN] {
            assert!(error(py, start_waiting(&["127.0.0.1"], 0, 1, 5.0, seconds)).starts_with("audio_wait is"));
        }
        let first = start(&["127.0.0.1"], 0, 1, 5.0).unwrap();
        let port = first.port(1);
        let taken = start(&["127.0.0.1"], port, 1, 5.0).err().unwrap();
        assert!(taken.is_instance_of::<PyOSError>(py));
        assert_eq!(taken.value(py).getattr("errno").unwrap().extract::<i32>().unwrap(), 98); // EADDRINUSE
        assert!(taken.to_string().contains(&format!("cannot open UDP port {port} on 127.0.0.1")), "{taken}");
        first.close(py);
    });
}

#[test]
fn a_whole_set_of_sections_is_refused_when_one_is_wrong() {
    Python::attach(|py| {
        let server = MediaServer::new(py, vec!["127.0.0.1".to_owned()], 0, 2, 5.0, 0.0).unwrap();
        assert_eq!((server.shard_of(3), server.shard_of(4)), (0, 1));
        let whole = || eval(py, &receiver(""));
        assert!(server.set_receivers(1, vec![whole(), eval(py, &receiver("kind=1"))]).is_err());
        assert!(server.set_receivers(1, vec![whole()]).is_ok());
        assert!(server.set_senders(1, vec![eval(py, &sender("mid=1"))]).is_err());
        assert!(server.set_remote(1, "u".to_owned(), "p".to_owned(), "sha-256 AB").is_err());
        assert!(error(py, server._inject_fault(0, "sneeze", 0.0)).contains("sneeze"));
        let metrics = server.metrics(py).unwrap();
        for name in ["packets_in", "panics", "restarts", "dropped_unread", "dropped_orders", "receive_errors", "peers"]
        {
            assert!(metrics.contains(name).unwrap(), "{name}");
        }
        assert!(server.peer_stats(py, 1).unwrap().is_none());
        server.close(py);
        server.close(py);
    });
}
