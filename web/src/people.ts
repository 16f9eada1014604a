/** From livekit-client's participants to what the views show. */
import { ConnectionQuality, Track, type Participant, type Room } from 'livekit-client';
import type { Person, Picture } from './model';
import { agentStateOf } from './state';

/** Everyone in the room: agents first, then by arrival, oneself last. */
export function peopleOf(room: Room): Person[] {
  const remote = [...room.remoteParticipants.values()];
  const order = (participant: Participant) => (participant.isAgent ? 0 : 1);
  remote.sort((a, b) => order(a) - order(b) || (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0));
  return [...remote, room.localParticipant].map(personOf);
}

export function nameOf(participant: Participant | undefined, identity: string): string {
  // A worker's agent without a name of its own has an identity made of a job id, which tells nobody anything.
  if (participant?.isAgent && (!participant.name || participant.name === participant.identity)) return 'Agent';
  return participant?.name || participant?.identity || identity;
}

function personOf(participant: Participant): Person {
  const microphone = participant.getTrackPublication(Track.Source.Microphone);
  // Agents may publish their voice without naming a source.
  const voice =
    microphone ??
    [...participant.audioTrackPublications.values()].find((each) => each.source !== Track.Source.ScreenShareAudio);
  return {
    identity: participant.identity,
    name: nameOf(participant, participant.identity),
    isLocal: participant.isLocal,
    isAgent: participant.isAgent,
    agentState: agentStateOf(participant.attributes['lk.agent.state']),
    microphoneOn: voice !== undefined && !voice.isMuted,
    speaking: participant.isSpeaking,
    poorConnection:
      participant.connectionQuality === ConnectionQuality.Poor ||
      participant.connectionQuality === ConnectionQuality.Lost,
    camera: pictureOf(participant, (source) => source !== Track.Source.ScreenShare),
    screen: pictureOf(participant, (source) => source === Track.Source.ScreenShare),
    audio: voice && !voice.isMuted ? (voice.track?.mediaStreamTrack ?? null) : null,
  };
}

function pictureOf(participant: Participant, wanted: (source: Track.Source) => boolean): Picture | null {
  const publication = [...participant.videoTrackPublications.values()].find(
    (each) => wanted(each.source) && each.track && !each.isMuted,
  );
  return publication?.track ?? null;
}
