/** Loudness of audio tracks, in bands, for meters and the agent's voice. One audio context, one animation loop. */

type Watch = {
  analyser: AnalyserNode;
  bytes: Uint8Array<ArrayBuffer>;
  bands: Float32Array;
  listener: (bands: Float32Array) => void;
};

const calm = typeof matchMedia === 'function' ? matchMedia('(prefers-reduced-motion: reduce)') : null;
/** With reduced motion a meter is still information: it steps four times a second instead of moving. */
const CALM_INTERVAL = 250;
const LOWEST_HZ = 90;
const HIGHEST_HZ = 5_500;

let context: AudioContext | null = null;
const watches = new Set<Watch>();
let frame = 0;
let last = 0;

/** Calls `listener` with `bands` values from 0 to 1 on every frame until the returned function is called. */
export function watchLevels(
  track: MediaStreamTrack,
  bands: number,
  listener: (bands: Float32Array) => void,
): () => void {
  context ??= new AudioContext();
  if (context.state === 'suspended') void context.resume();
  const source = context.createMediaStreamSource(new MediaStream([track]));
  const analyser = new AnalyserNode(context, {
    fftSize: 1024,
    smoothingTimeConstant: 0.6,
    minDecibels: -80,
    maxDecibels: -24,
  });
  source.connect(analyser);
  const watch: Watch = {
    analyser,
    bytes: new Uint8Array(analyser.frequencyBinCount),
    bands: new Float32Array(bands),
    listener,
  };
  watches.add(watch);
  if (!frame) frame = requestAnimationFrame(step);
  return () => {
    if (!watches.delete(watch)) return;
    source.disconnect();
    if (!watches.size) {
      cancelAnimationFrame(frame);
      frame = 0;
    }
  };
}

/** Browsers hold audio back until the user did something; call this from a click or key. */
export function wakeLevels(): void {
  if (context?.state === 'suspended') void context.resume();
}

function step(now: number): void {
  frame = requestAnimationFrame(step);
  if (calm?.matches && now - last < CALM_INTERVAL) return;
  last = now;
  for (const watch of watches) {
    watch.analyser.getByteFrequencyData(watch.bytes);
    fillBands(watch.bytes, watch.analyser.context.sampleRate, watch.bands);
    watch.listener(watch.bands);
  }
}

/** The mean of each band; bands are equally wide on a logarithmic scale over the voice's range. */
export function fillBands(bytes: Uint8Array, sampleRate: number, bands: Float32Array): void {
  const perBin = sampleRate / 2 / bytes.length;
  const ratio = (HIGHEST_HZ / LOWEST_HZ) ** (1 / bands.length);
  for (let band = 0; band < bands.length; band++) {
    const from = Math.floor((LOWEST_HZ * ratio ** band) / perBin);
    const to = Math.min(bytes.length, Math.max(from + 1, Math.ceil((LOWEST_HZ * ratio ** (band + 1)) / perBin)));
    let sum = 0;
    for (let bin = from; bin < to; bin++) sum += bytes[bin] ?? 0;
    bands[band] = to > from ? sum / (to - from) / 255 : 0;
  }
}
