// A plain RTCPeerConnection for the tests: `peer` makes tones and pictures, hears and sees what comes in, exchanges SDP.
window.peer = (() => {
  const pc = new RTCPeerConnection();
  const audio = new AudioContext();
  const incoming = [];
  const messages = [];
  const senders = {};
  let channel = null;

  const use = (opened) => {
    channel = opened;
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => messages.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
  };
  pc.ondatachannel = (event) => use(event.channel);
  pc.ontrack = ({ track, streams, transceiver }) => {
    const element = document.createElement(track.kind);
    element.autoplay = element.muted = true;
    element.srcObject = new MediaStream([track]);
    document.body.append(element);
    const entry = { kind: track.kind, mid: transceiver.mid, streams: streams.map((each) => each.id), element };
    if (track.kind === "audio") {
      entry.analyser = audio.createAnalyser();
      entry.analyser.fftSize = 8192;
      audio.createMediaStreamSource(element.srcObject).connect(entry.analyser);
    }
    incoming.unshift(entry);
  };

  const tone = (hz) => {
    const oscillator = audio.createOscillator();
    oscillator.frequency.value = hz;
    const gain = audio.createGain();
    gain.gain.value = 0.3;
    const out = audio.createMediaStreamDestination();
    oscillator.connect(gain).connect(out);
    oscillator.start();
    return out.stream.getTracks()[0];
  };
  const picture = (left, right) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [320, 240];
    const paint = canvas.getContext("2d");
    setInterval(() => {
      paint.fillStyle = `rgb(${left})`;
      paint.fillRect(0, 0, 160, 240);
      paint.fillStyle = `rgb(${right})`;
      paint.fillRect(160, 0, 160, 240);
    }, 50);
    return canvas.captureStream(20).getTracks()[0];
  };
  const newest = (kind) => incoming.find((each) => each.kind === kind);
  const made = (kind, what) => (kind === "audio" ? tone(...what) : picture(...what));
  const gathered = async () => {
    while (pc.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
    return pc.localDescription.sdp;
  };

  return {
    send: (name, kind, ...what) => { senders[name] = pc.addTrack(made(kind, what), new MediaStream()); },
    transceiver: (kind) => { pc.addTransceiver(kind, { direction: "recvonly" }); },
    open: (label) => use(pc.createDataChannel(label)),
    say: (message) => channel.send(typeof message === "string" ? message : new Uint8Array(message)),
    offer: async (restart) => {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: Boolean(restart) }));
      return gathered();
    },
    answer: (sdp) => pc.setRemoteDescription({ type: "answer", sdp }),
    accept: async (sdp) => {
      await pc.setRemoteDescription({ type: "offer", sdp });
      await pc.setLocalDescription();
      return gathered();
    },
    of: (name) => pc.getTransceivers().find((each) => each.sender === senders[name]),
    remove: (name) => pc.removeTrack(senders[name]),
    reuse: async (name, kind, ...what) => {
      const transceiver = window.peer.of(name);
      await transceiver.sender.replaceTrack(made(kind, what));
      transceiver.sender.setStreams(new MediaStream());
      transceiver.direction = "sendonly";
      return transceiver.mid;
    },
    stop: (name) => window.peer.of(name).stop(),
    stream: (name) => /a=msid:(\S+)/.exec(
      pc.localDescription.sdp.split("m=").find((part) => part.includes(`a=mid:${window.peer.of(name).mid}\r`)))[1],
    state: () => [pc.connectionState, pc.signalingState],
    messages: () => messages,
    tracks: () => incoming.map(({ kind, mid, streams }) => ({ kind, mid, streams })),
    // The strongest frequency of the newest incoming sound; 0 when it is silent.
    heard: () => {
      const analyser = newest("audio")?.analyser;
      if (!analyser) return null;
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      const best = bins.reduce((top, value, bin) => (value > bins[top] ? bin : top), 0);
      return bins[best] < -70 ? 0 : (best * audio.sampleRate) / analyser.fftSize;
    },
    // The colours left and right of the newest incoming picture.
    seen: () => {
      const element = newest("video")?.element;
      if (!element?.videoWidth) return null;
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [element.videoWidth, element.videoHeight];
      const paint = canvas.getContext("2d");
      paint.drawImage(element, 0, 0);
      const at = (x) => [...paint.getImageData(Math.floor(canvas.width * x), canvas.height / 2, 1, 1).data].slice(0, 3);
      return [at(0.25), at(0.75)];
    },
  };
})();
