/** Where the page gets its pass to a room. */
import { JoinError, problem } from './problems';

export interface Pass {
  /** The name in the token, when it came from outside. */
  name?: string;
  url: string;
  token: string;
  room: string;
}

const WAIT = 10_000;

/** `#token=...` and `#url=...` of the page's address: a pass that an application made. They never reach a server's log. */
export function passFromAddress(location: Pick<Location, 'hash' | 'origin'>): Pass | null {
  const given = new URLSearchParams(location.hash.replace(/^#/, ''));
  const token = given.get('token');
  if (!token) return null;
  return { url: given.get('url') || location.origin.replace(/^http/, 'ws'), token, ...claimsOf(token) };
}

/** The room and name in a token; '' for what cannot be read. Only for display: the server decides. */
export function claimsOf(token: string): { room: string; name: string } {
  try {
    const body = token.split('.')[1] ?? '';
    const bytes = Uint8Array.from(atob(body.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
    const { video, name, sub } = JSON.parse(new TextDecoder().decode(bytes));
    const text = (value: unknown) => (typeof value === 'string' ? value : '');
    return { room: text(video?.room), name: text(name) || text(sub) };
  } catch {
    return { room: '', name: '' };
  }
}

/** Asks the server for a pass, in the shape of livekit-client's `TokenSource.endpoint`. Throws JoinError. */
export async function requestPass(name: string, room: string, identity: string, cancel: AbortSignal): Promise<Pass> {
  let response: Response;
  try {
    response = await fetch('api/token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ room_name: room, participant_name: name, participant_identity: identity }),
      signal: AbortSignal.any([cancel, AbortSignal.timeout(WAIT)]),
    });
  } catch (error) {
    if (cancel.aborted) throw error;
    throw new JoinError(problem('server-gone'));
  }
  if (response.status === 404 || response.status === 405) throw new JoinError(problem('no-tokens'));
  if (response.status === 401 || response.status === 403) throw new JoinError(problem('bad-token'));
  const answer: unknown = await response.json().catch(() => null);
  const fields = (typeof answer === 'object' && answer !== null ? answer : {}) as Record<string, unknown>;
  const { server_url: url, participant_token: token, room_name: roomName, error } = fields;
  if (response.ok && typeof url === 'string' && typeof token === 'string') {
    return { url, token, room: typeof roomName === 'string' && roomName ? roomName : room };
  }
  if (response.status >= 500) throw new JoinError(problem('server-gone'));
  throw new JoinError(problem('unknown', typeof error === 'string' ? error : `The server answered ${response.status}`));
}
