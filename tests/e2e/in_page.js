// Driven by the tests in this folder: a thin hand on the official livekit-client inside the browser.
// Every function returns plain values, so that the assertions stay in Python.
window.gr = (() => {
  const rooms = {};
  const LK = LivekitClient;

  async function join(name, url, token, { single = true, adaptive = true } = {}) {
    const room = new LK.Room({ adaptiveStream: adaptive, dynacast: true, singlePeerConnection: single });
    const seen = { data: [], text: [], captions: [], speakers: [], events: [], elements: {} };
    rooms[name] = { room, seen };
    room.on(LK.RoomEvent.DataReceived, (payload, from, kind, topic) =>
      seen.data.push({ text: new TextDecoder().decode(payload), from: from?.identity, topic }));
    room.on(LK.RoomEvent.TrackSubscribed, (track, pub, from) => {
      const element = track.attach();
      element.muted = track.kind === 'video';
      document.body.append(element);
      seen.elements[pub.trackSid] = element;
      seen.events.push(['subscribed', from.identity, track.kind, pub.source]);
    });
    room.on(LK.RoomEvent.TrackUnsubscribed, (_track, pub, from) => seen.events.push(['unsubscribed', from.identity, pub.kind]));
    room.on(LK.RoomEvent.TrackMuted, (pub, from) => seen.events.push(['muted', from.identity, pub.kind]));
    room.on(LK.RoomEvent.TrackUnmuted, (pub, from) => seen.events.push(['unmuted', from.identity, pub.kind]));
    room.on(LK.RoomEvent.ParticipantConnected, (p) => seen.events.push(['connected', p.identity]));
    room.on(LK.RoomEvent.ParticipantDisconnected, (p) => seen.events.push(['disconnected', p.identity]));
    room.on(LK.RoomEvent.ActiveSpeakersChanged, (list) => seen.speakers.push(list.map((p) => p.identity)));
    room.on(LK.RoomEvent.Disconnected, (reason) => seen.events.push(['left', reason]));
    room.on(LK.RoomEvent.Reconnecting, () => seen.events.push(['reconnecting']));
    room.on(LK.RoomEvent.SignalReconnecting, () => seen.events.push(['signal-reconnecting']));
    room.on(LK.RoomEvent.Reconnected, () => seen.events.push(['reconnected']));
    room.registerTextStreamHandler('lk.transcription', async (reader, from) => {
      const text = await reader.readAll();
      seen.captions.push({ text, from: from.identity, ...reader.info.attributes });
    });
    room.registerTextStreamHandler('lk.chat', async (reader, from) => seen.text.push({ text: await reader.readAll(), from: from.identity }));
    await room.connect(url, token);
    return { sid: room.localParticipant.sid, others: [...room.remoteParticipants.keys()] };
  }

  const of = (name) => rooms[name];
  const pcs = (name) => {
    const manager = of(name).room.engine.pcManager;
    return [manager.publisher, manager.subscriber].filter(Boolean).map((t) => t.pc ?? t._pc).filter(Boolean);
  };

  // Every RTP stream of all peer connections, reduced to the numbers the tests look at.
  async function streams(name) {
    const rows = [];
    for (const pc of pcs(name)) {
      const report = await pc.getStats();
      report.forEach((s) => {
        if (s.type === 'inbound-rtp' || s.type === 'outbound-rtp') {
          rows.push({ type: s.type, kind: s.kind, rid: s.rid ?? '', packets: s.packetsReceived ?? s.packetsSent,
            lost: s.packetsLost ?? 0, frames: s.framesDecoded ?? s.framesEncoded ?? 0, audioEnergy: s.totalAudioEnergy ?? 0,
            level: s.audioLevel ?? 0, width: s.frameWidth ?? 0, nacks: s.nackCount ?? 0, plis: s.pliCount ?? 0,
            codec: report.get(s.codecId)?.mimeType ?? '' });
        }
        if (s.type === 'transport') rows.push({ type: 'transport', srtp: s.srtpCipher, dtls: s.tlsVersion, state: s.dtlsState });
      });
    }
    return rows;
  }

  return {
    join, streams,
    seen: (name) => { const { data, text, captions, speakers, events } = of(name).seen; return { data, text, captions, speakers, events }; },
    peerConnections: (name) => pcs(name).length,
    microphone: async (name, on) => { await of(name).room.localParticipant.setMicrophoneEnabled(on); },
    camera: async (name, on) => { await of(name).room.localParticipant.setCameraEnabled(on); },
    send: (name, text, reliable, topic) =>
      of(name).room.localParticipant.publishData(new TextEncoder().encode(text), { reliable, topic }),
    chat: async (name, text) => { await of(name).room.localParticipant.sendText(text, { topic: 'lk.chat' }); },
    attributes: async (name, values) => { await of(name).room.localParticipant.setAttributes(values); },
    rpc: (name, to, method, payload) => of(name).room.localParticipant.performRpc({ destinationIdentity: to, method, payload }),
    serveRpc: (name, method) => of(name).room.registerRpcMethod(method, async (call) => `${call.callerIdentity}:${call.payload}`),
    others: (name) => [...of(name).room.remoteParticipants.values()].map((p) => ({ identity: p.identity, attributes: p.attributes,
      tracks: [...p.trackPublications.values()].map((t) => ({ kind: t.kind, muted: t.isMuted, subscribed: t.isSubscribed, mime: t.mimeType })) })),
    subscribe: (name, identity, on) => {
      for (const pub of of(name).room.remoteParticipants.get(identity).trackPublications.values()) pub.setSubscribed(on);
    },
    cutSignal: (name) => of(name).room.simulateScenario('signal-reconnect'),
    fullReconnect: (name) => of(name).room.simulateScenario('full-reconnect'),
    state: (name) => of(name).room.state,
    leave: async (name) => { await of(name).room.disconnect(); },
    // The colour in the middle of the first attached video, as [r, g, b].
    colour: (name) => {
      const video = Object.values(of(name).seen.elements).find((e) => e instanceof HTMLVideoElement && e.videoWidth);
      if (!video) return null;
      const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext('2d');
      context.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
      return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    },
  };
})();
