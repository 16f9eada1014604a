/** From livekit-client's reasons to our words. */
import { ConnectionError, ConnectionErrorReason, DisconnectReason } from 'livekit-client';
import { problem, type Problem, type ProblemKind } from './problems';

const END_REASONS: Partial<Record<DisconnectReason, ProblemKind>> = {
  [DisconnectReason.CLIENT_INITIATED]: 'left',
  [DisconnectReason.DUPLICATE_IDENTITY]: 'duplicate',
  [DisconnectReason.SERVER_SHUTDOWN]: 'server-stopped',
  [DisconnectReason.PARTICIPANT_REMOVED]: 'removed',
  [DisconnectReason.ROOM_DELETED]: 'room-ended',
  [DisconnectReason.ROOM_CLOSED]: 'room-ended',
};

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Why joining did not work. */
export function joinProblem(error: unknown): Problem {
  if (!(error instanceof ConnectionError)) return problem('unknown', textOf(error));
  switch (error.reason) {
    case ConnectionErrorReason.NotAllowed:
      return error.status === 403 && /limit|maximum|exceeded/i.test(error.message)
        ? problem('full')
        : problem('bad-token');
    case ConnectionErrorReason.ServerUnreachable:
    case ConnectionErrorReason.ServiceNotFound:
    case ConnectionErrorReason.WebSocket:
      return problem('server-gone');
    case ConnectionErrorReason.Timeout:
      return problem('no-media');
    case ConnectionErrorReason.InternalError:
      return /peer ?connection|pc connection|ice/i.test(error.message) ? problem('no-media') : problem('server-gone');
    default:
      return problem('unknown', error.message);
  }
}

/** Why the call ended. */
export function endProblem(reason: DisconnectReason | undefined): Problem {
  return problem(END_REASONS[reason ?? DisconnectReason.UNKNOWN_REASON] ?? 'lost');
}
