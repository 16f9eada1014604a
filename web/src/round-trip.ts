/** The connection's round trip, from the media path where there is one, else from the signalling's own pings. */
import type { Room } from 'livekit-client';

/** Milliseconds, or null before the first measurement. */
export async function roundTrip(room: Room): Promise<number | null> {
  const manager = room.engine?.pcManager;
  for (const transport of [manager?.publisher, manager?.subscriber]) {
    const report = await transport?.getStats()?.catch(() => undefined);
    const ms = report && fromStats(report.values() as Iterable<Stats>);
    if (ms !== undefined && ms !== null) return ms;
  }
  const ms = room.engine?.client?.rtt ?? 0;
  return ms > 0 ? ms : null;
}

export type Stats = { type: string; state?: string; nominated?: boolean; currentRoundTripTime?: number };

/** Browsers report whole milliseconds, and 0 on loopback: that is less than one, not nothing. */
const FINEST = 0.5;

/** The nominated candidate pair's round trip in milliseconds (webrtc-stats, RTCIceCandidatePairStats). */
export function fromStats(stats: Iterable<Stats>): number | null {
  let best: number | null = null;
  for (const { type, state, nominated, currentRoundTripTime } of stats) {
    if (type !== 'candidate-pair' || state !== 'succeeded' || currentRoundTripTime === undefined) continue;
    const ms = Math.max(FINEST, currentRoundTripTime * 1000);
    if (nominated) return ms;
    best ??= ms;
  }
  return best;
}
