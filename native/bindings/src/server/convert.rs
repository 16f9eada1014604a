//! Python values to commands, events to tuples. Attributes are read by name: any object of the right shape will do.
use greenroom_forward::{Codec, Event, Extensions, Kind, PeerStats, Receiver, Sender, TrackId};
use greenroom_shard::ServerEvent;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

/// `sha-256 AB:CD:...` as 32 bytes.
pub(super) fn fingerprint(text: &str) -> PyResult<[u8; 32]> {
    let invalid = || PyValueError::new_err(format!("not a sha-256 fingerprint: {text}"));
    let (hash, pairs) = text.trim().split_once(' ').ok_or_else(invalid)?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return Err(invalid());
    }
    let bytes: Vec<u8> = pairs
        .trim()
        .split(':')
        .map(|pair| {
            // The parser would take a sign for a digit.
            let whole = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            if whole { u8::from_str_radix(pair, 16).ok() } else { None }
        })
        .collect::<Option<_>>()
        .ok_or_else(invalid)?;
    bytes.try_into().map_err(|_| invalid())
}

fn get<'py, T>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    object.getattr(name)?.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        PyValueError::new_err(format!("{name}: {error}"))
    })
}

fn codec(object: &Bound<'_, PyAny>) -> PyResult<Codec> {
    let codec = Codec {
        pt: get(object, "pt")?,
        name: get(object, "name")?,
        clock_rate: get(object, "clock_rate")?,
        rtx_pt: get(object, "rtx_pt")?,
        fmtp: get(object, "fmtp")?,
    };
    if codec.pt > 127 || codec.rtx_pt > 127 || codec.clock_rate == 0 {
        return Err(PyValueError::new_err(format!(
            "codec {}: payload types are 0..127, the clock rate is not 0",
            codec.name
        )));
    }
    Ok(codec)
}

fn codecs(object: &Bound<'_, PyAny>) -> PyResult<Vec<Codec>> {
    object.getattr("codecs")?.try_iter()?.map(|item| codec(&item?)).collect()
}

fn extensions(object: &Bound<'_, PyAny>) -> PyResult<Extensions> {
    let pairs: Vec<(String, u8)> = object
        .getattr("extensions")?
        .call_method0("items")?
        .try_iter()?
        .map(|item| item?.extract())
        .collect::<PyResult<_>>()?;
    Ok(Extensions::new(pairs.iter().map(|(uri, id)| (uri.as_str(), *id))))
}

fn pairs<'py, A, B>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Vec<(A, B)>>
where
    (A, B): for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
{
    object.getattr(name)?.try_iter()?.map(|item| item?.extract().map_err(Into::into)).collect()
}

fn kind(object: &Bound<'_, PyAny>) -> PyResult<Kind> {
    match get::<String>(object, "kind")?.as_str() {
        "audio" => Ok(Kind::Audio),
        "video" => Ok(Kind::Video),
        other => Err(PyValueError::new_err(format!("kind is audio or video, not {other:?}"))),
    }
}

/// A `greenroom.server.media.Receiver`.
pub(super) fn receiver(object: &Bound<'_, PyAny>) -> PyResult<Receiver> {
    Ok(Receiver {
        track: TrackId(get(object, "track")?),
        mid: get(object, "mid")?,
        kind: kind(object)?,
        codecs: codecs(object)?,
        extensions: extensions(object)?,
        layers: pairs(object, "layers")?,
        ssrcs: pairs(object, "ssrcs")?,
        nack: get(object, "nack")?,
        transport_cc: get(object, "transport_cc")?,
    })
}

/// A `greenroom.server.media.Sender`.
pub(super) fn sender(object: &Bound<'_, PyAny>) -> PyResult<Sender> {
    Ok(Sender {
        mid: get(object, "mid")?,
        track: TrackId(get(object, "track")?),
        kind: kind(object)?,
        ssrc: get(object, "ssrc")?,
        rtx_ssrc: get(object, "rtx_ssrc")?,
        codecs: codecs(object)?,
        extensions: extensions(object)?,
        paused: get(object, "paused")?,
        max_layer: get(object, "max_layer")?,
        max_temporal: get(object, "max_temporal")?,
        cname: get(object, "stream")?,
    })
}

/// The tuple of an event, as `MediaServer.poll_events` describes it.
pub(super) fn event(py: Python<'_>, event: ServerEvent) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        ServerEvent::Core(event) => core_event(py, event),
        ServerEvent::Unread { peer, count } => ("unread", peer.0, count).into_pyobject(py),
        ServerEvent::ShardRestarted { shard, reason } => ("shard_restarted", shard, reason).into_pyobject(py),
        ServerEvent::ShardFailed { shard, reason } => ("shard_failed", shard, reason).into_pyobject(py),
        ServerEvent::ShardStuck { shard, reason } => ("shard_stuck", shard, reason).into_pyobject(py),
    }
}

fn core_event(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Connected(peer) => ("connected", peer.0).into_pyobject(py),
        Event::Failed(peer, reason) => ("failed", peer.0, reason).into_pyobject(py),
        Event::Disconnected(peer) => ("disconnected", peer.0).into_pyobject(py),
        Event::Reconnected(peer) => ("reconnected", peer.0).into_pyobject(py),
        Event::Lost(peer) => ("lost", peer.0).into_pyobject(py),
        Event::Track { track, layer, ssrc, pt } => ("track", track.0, layer, ssrc, pt).into_pyobject(py),
        Event::Data { peer, label, payload, binary } => {
            ("data", peer.0, &*label, PyBytes::new(py, &payload), binary).into_pyobject(py)
        }
        Event::ChannelOpen { peer, label } => ("channel", peer.0, &*label).into_pyobject(py),
        Event::Speakers { room, changes } => {
            let changes: Vec<_> = changes.into_iter().map(|(track, level, active)| (track.0, level, active)).collect();
            ("speakers", room.0, changes).into_pyobject(py)
        }
        Event::Dropped { peer, label, count } => ("dropped", peer.0, &*label, count).into_pyobject(py),
        Event::Stats(peer, _) => ("stats", peer.0).into_pyobject(py),
    }
}

/// The dictionary of `MediaServer.peer_stats`.
pub(super) fn stats<'py>(py: Python<'py>, stats: &PeerStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("rtt_ms", stats.rtt_ms)?;
    let mut streams = Vec::with_capacity(stats.streams.len());
    for stream in &stats.streams {
        let entry = PyDict::new(py);
        entry.set_item("track", stream.track)?;
        entry.set_item("inbound", stream.inbound)?;
        entry.set_item("layer", stream.layer)?;
        entry.set_item("ssrc", stream.ssrc)?;
        entry.set_item("packets", stream.packets)?;
        entry.set_item("bytes", stream.bytes)?;
        entry.set_item("lost", stream.lost)?;
        entry.set_item("jitter_ms", stream.jitter_ms)?;
        entry.set_item("fraction_lost", stream.fraction_lost)?;
        streams.push(entry);
    }
    dict.set_item("tracks", streams)?;
    Ok(dict)
}
