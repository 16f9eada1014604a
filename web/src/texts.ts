/** What is written in a room: captions, chat and the agents' latency figures. */
import {
  RoomEvent,
  type Participant,
  type Room,
  type TextStreamReader,
  type TranscriptionSegment,
} from 'livekit-client';
import { SegmentStreams } from './captions';
import { parseTurn } from './latency';
import { nameOf } from './people';
import type { Store } from './store';

const CAPTIONS = 'lk.transcription';
const CHAT = 'lk.chat';
const TURN = 'greenroom.turn';
/** Characters of one entry that are kept: what others send must not make the page slow. */
const MAX_TEXT = 8_000;

export class Texts {
  private readonly streams = new SegmentStreams();
  private closed = false;

  constructor(
    private readonly room: Room,
    private readonly store: Store,
  ) {
    room.on(RoomEvent.TranscriptionReceived, (segments, participant) => this.oldCaptions(segments, participant));
    room.registerTextStreamHandler(
      CAPTIONS,
      (reader, { identity }) => void this.read(() => this.caption(reader, identity)),
    );
    room.registerTextStreamHandler(
      CHAT,
      (reader, { identity }) => void this.read(async () => this.chat(reader.info.id, identity, await reader.readAll())),
    );
    room.registerTextStreamHandler(
      TURN,
      (reader) =>
        void this.read(async () => {
          const turn = parseTurn(await reader.readAll());
          if (turn && !this.closed) this.store.dispatch({ type: 'turn', turn });
        }),
    );
  }

  async sendChat(text: string): Promise<void> {
    const { id } = await this.room.localParticipant.sendText(text, { topic: CHAT });
    this.chat(id, this.room.localParticipant.identity, text);
  }

  /** Streams that are still being read change nothing any more. */
  close(): void {
    this.closed = true;
  }

  /** A stream may break off when its sender goes; what came of it stays on the page. */
  private async read(body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      console.debug('a text stream broke off', error);
    }
  }

  private async caption(reader: TextStreamReader, sender: string): Promise<void> {
    const { id, attributes = {} } = reader.info;
    const segment = attributes['lk.segment_id'] ?? id;
    const newest = this.streams.begin(segment);
    const identity = this.ownerOf(attributes['lk.transcribed_track_id']) ?? sender;
    const show = (text: string, final: boolean) => {
      if (newest()) this.speech(segment, identity, text, final, false);
    };
    let text = '';
    try {
      for await (const chunk of reader) show((text += chunk), false);
    } finally {
      // The final mark may come at the end of the stream, with its trailer.
      show(text, reader.info.attributes?.['lk.transcription_final'] === 'true');
    }
  }

  private oldCaptions(segments: TranscriptionSegment[], participant: Participant | undefined): void {
    if (!participant) return;
    for (const { id, text, final } of segments) this.speech(id, participant.identity, text, final, true);
  }

  private speech(id: string, identity: string, text: string, final: boolean, legacy: boolean): void {
    if (this.closed) return;
    const participant = this.room.getParticipantByIdentity(identity);
    // The time is ours: senders' clocks may differ.
    const entry = {
      id,
      kind: 'speech',
      identity,
      name: nameOf(participant, identity),
      text: text.slice(0, MAX_TEXT),
      final,
      isLocal: participant?.isLocal ?? false,
      at: Date.now(),
      legacy,
    } as const;
    this.store.dispatch({ type: 'speech', entry });
  }

  private chat(id: string, identity: string, text: string): void {
    if (this.closed || !text.trim()) return;
    const participant = this.room.getParticipantByIdentity(identity);
    const entry = {
      id,
      kind: 'chat',
      identity,
      name: nameOf(participant, identity),
      text: text.slice(0, MAX_TEXT),
      final: true,
      isLocal: participant?.isLocal ?? false,
      at: Date.now(),
    } as const;
    this.store.dispatch({ type: 'chat', entry });
  }

  private ownerOf(trackSid: string | undefined): string | undefined {
    if (!trackSid) return undefined;
    const everyone: Participant[] = [this.room.localParticipant, ...this.room.remoteParticipants.values()];
    return everyone.find((participant) => participant.trackPublications.has(trackSid))?.identity;
  }
}
