/** Ties the state, the devices and the call together: what happens when the user does something. */
import { isBrowserSupported } from 'livekit-client';
import type { Actions } from './actions';
import { Call } from './call';
import { Devices } from './devices';
import { wakeLevels } from './levels';
import type { DeviceKind, Person } from './model';
import { deviceProblem, JoinError, problem, type Problem } from './problems';
import { remember, type Memory } from './memory';
import type { Store } from './store';
import { passFromAddress, requestPass, type Pass } from './token';

const NOTICE_TIME = 6_000;

export class App implements Actions {
  private call: Call | null = null;
  private joining: AbortController | null = null;
  private readonly pass: Pass | null;
  private identity: { name: string; identity: string } | null = null;
  private notices = 0;
  private noticeTimer = 0;
  private readonly devices: Devices;

  constructor(
    private readonly store: Store,
    private readonly memory: Memory,
  ) {
    this.pass = passFromAddress(location);
    this.devices = new Devices(
      (kind, status) => store.dispatch({ type: 'device', kind, status }),
      () => this.showMyself(),
    );
    Object.assign(this.devices.chosen, memory.chosen);
  }

  start(): void {
    if (this.pass)
      this.store.dispatch({
        type: 'form',
        room: this.pass.room || 'room of the token',
        name: this.pass.name || 'Guest',
        fixed: true,
      });
    this.showMyself();
    for (const kind of ['microphone', 'camera'] as const) if (this.memory[kind]) void this.devices.set(kind, true);
  }

  join(): void {
    if (this.joining || this.call) return;
    void this.enter();
  }

  toLobby(): void {
    this.joining?.abort();
    void this.call?.leave();
    this.call = null;
    this.store.dispatch({ type: 'lobby' });
    this.reopenDevices();
  }

  leave(): void {
    void this.call?.leave();
    this.call = null;
    this.store.dispatch({ type: 'ended', problem: problem('left'), at: Date.now() });
  }

  toggle(kind: DeviceKind): void {
    const status = this.store.state.devices[kind];
    if (status === 'asking') return;
    const on = status !== 'on';
    this.remember({ [kind]: on });
    void (this.call ? this.setInCall(this.call, kind, on) : this.devices.set(kind, on));
  }

  chooseDevice(kind: MediaDeviceKind, id: string): void {
    this.devices.chosen[kind] = id;
    this.remember({ chosen: { ...this.devices.chosen } });
    const change = this.call ? this.call.chooseDevice(kind, id) : this.devices.choose(kind, id);
    change.catch(() => this.notify('That device did not start. The one before stays in use.', 'warning'));
  }

  async listDevices(kind: MediaDeviceKind): Promise<{ devices: MediaDeviceInfo[]; current: string }> {
    return {
      devices: await this.devices.list(kind),
      current: this.call?.currentDevice(kind) || this.devices.chosen[kind] || '',
    };
  }

  dismissNotice(): void {
    this.store.dispatch({ type: 'notice', notice: null });
  }

  copyLink(): void {
    const address = new URL(location.pathname, location.origin);
    address.searchParams.set('room', this.store.state.room);
    navigator.clipboard.writeText(address.href).then(
      () => this.notify('Link copied. Whoever opens it lands in this room.', 'info'),
      () => this.notify(`Copy this address: ${address.href}`, 'warning'),
    );
  }

  async sendChat(text: string): Promise<void> {
    if (!this.call) throw new Error('not in a call');
    try {
      await this.call.sendChat(text);
    } catch (error) {
      this.notify('Your message was not sent. It is still in the field.', 'warning');
      throw error;
    }
  }

  startAudio(): void {
    wakeLevels();
    this.call?.startAudio().catch(() => this.notify('The browser still holds the sound back.', 'warning'));
  }

  private async enter(): Promise<void> {
    const { name, room } = this.store.state;
    const cancel = (this.joining = new AbortController());
    this.store.dispatch({ type: 'joining' });
    if (!this.pass) this.remember({ name });
    wakeLevels();
    const call = new Call(this.store, this.devices.chosen, {
      ended: (why) => this.ended(call, why),
      trouble: (text) => this.notify(text, 'warning'),
    });
    cancel.signal.addEventListener('abort', () => void call.leave());
    try {
      if (!isBrowserSupported()) throw new JoinError(problem('unsupported'));
      const pass = this.pass ?? (await requestPass(name.trim(), room.trim(), this.identityFor(name), cancel.signal));
      if (cancel.signal.aborted) return;
      await call.join(pass);
      this.call = call;
      this.identity = { name, identity: call.identity };
      this.showAddress();
      this.publishDevices(call);
    } catch (error) {
      if (cancel.signal.aborted) return;
      void call.leave();
      const shown =
        error instanceof JoinError ? error.problem : problem('unknown', error instanceof Error ? error.message : '');
      this.store.dispatch({ type: 'ended', problem: shown, at: Date.now() });
      // Until it is in the call the lobby owns the devices: a join that fails leaves its preview as it is.
      this.reopenDevices();
    } finally {
      if (this.joining === cancel) this.joining = null;
    }
  }

  /** What the lobby opened goes on the air; what was on in an earlier call is opened again. */
  private publishDevices(call: Call): void {
    const { devices } = this.store.state;
    const open = this.devices.take();
    for (const kind of ['microphone', 'camera'] as const) {
      const track = open[kind];
      if (track) void call.publish(kind, track);
      else if (devices[kind] === 'on' || devices[kind] === 'asking') void this.setInCall(call, kind, true);
    }
  }

  private async setInCall(call: Call, kind: DeviceKind, on: boolean): Promise<void> {
    await call.setDevice(kind, on);
    const text = deviceProblem(kind, this.store.state.devices[kind], true);
    if (text && this.call === call) this.notify(text, 'warning');
  }

  private ended(call: Call, why: Problem): void {
    if (this.call !== call) return;
    this.call = null;
    this.store.dispatch({ type: 'ended', problem: why, at: Date.now() });
  }

  /** Coming back to a room as the same participant lets the server clear what is left of the earlier stay. */
  private identityFor(name: string): string {
    return this.identity?.name === name ? this.identity.identity : '';
  }

  /** What was on at the end is on again in the lobby. */
  private reopenDevices(): void {
    this.showMyself();
    for (const kind of ['microphone', 'camera'] as const) {
      const status = this.store.state.devices[kind];
      void this.devices.set(kind, status === 'on' || status === 'asking');
    }
  }

  /** In the lobby the only person is oneself. */
  private showMyself(): void {
    if (this.store.state.phase !== 'lobby' && this.store.state.phase !== 'joining') return;
    const { microphone, camera } = this.devices;
    const me: Person = {
      identity: '',
      name: this.store.state.name,
      isLocal: true,
      isAgent: false,
      agentState: null,
      microphoneOn: microphone !== undefined,
      speaking: false,
      poorConnection: false,
      camera: camera ?? null,
      screen: null,
      audio: microphone?.mediaStreamTrack ?? null,
    };
    this.store.dispatch({ type: 'people', people: [me] });
  }

  /** The address then names the room: it can be copied, and a reload comes back to it. */
  private showAddress(): void {
    if (this.pass) return;
    const address = new URL(location.href);
    address.searchParams.set('room', this.store.state.room);
    history.replaceState(null, '', address);
  }

  private notify(text: string, tone: 'info' | 'warning'): void {
    this.store.dispatch({ type: 'notice', notice: { id: ++this.notices, text, tone } });
    window.clearTimeout(this.noticeTimer);
    // A warning stays until it is closed: it may take longer to read, and to act upon.
    if (tone === 'info')
      this.noticeTimer = window.setTimeout(() => this.store.dispatch({ type: 'notice', notice: null }), NOTICE_TIME);
  }

  private remember(change: Partial<Memory>): void {
    Object.assign(this.memory, change);
    remember(this.memory);
  }
}
