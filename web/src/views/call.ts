/** The call: stage, captions, conversation, controls, and what the connection is doing. */
import type { Actions } from '../actions';
import { h, setAttribute, setText } from '../dom';
import { icon, mark } from '../icons';
import { formatMs } from '../latency';
import type { State } from '../model';
import type { Store } from '../store';
import { CaptionsView } from './captions';
import { ComposerView } from './composer';
import { Control, DeviceControl } from './controls';
import { ConversationView } from './conversation';
import { LatencyView } from './latency';
import { StageView } from './stage';

const LINK_TEXT = {
  good: '',
  resuming: 'Reconnecting\u2026',
  restarting: 'Connection lost. Trying to get it back, up to a minute\u2026',
} as const;

export class CallView {
  readonly element: HTMLElement;
  private readonly title = h('h1', { class: 'room-name', tabindex: -1 });
  private readonly roundTrip = h('span', { class: 'rtt-value' });
  private readonly status: HTMLElement;
  private readonly stage: StageView;
  private readonly captions = new CaptionsView();
  private readonly conversation = new ConversationView();
  private readonly composer: ComposerView;
  private readonly latency = new LatencyView();
  private readonly microphone: DeviceControl;
  private readonly camera: DeviceControl;
  private readonly captionsControl: Control;
  private readonly panelControl: Control;
  private readonly badge = h('span', { class: 'badge', 'aria-hidden': 'true' });
  private readonly banner = h('div', { class: 'banner', role: 'status' });
  private readonly sound: HTMLButtonElement;
  private readonly toast = h('div', { class: 'toast-place', role: 'status' });
  private readonly panel: HTMLElement;
  private shownNotice: State['notice'] = null;

  constructor(
    private readonly store: Store,
    private readonly actions: Actions,
    openDevices: () => void,
  ) {
    this.stage = new StageView(actions);
    this.composer = new ComposerView(actions, () => this.leaveComposer());
    this.microphone = new DeviceControl('microphone', actions);
    this.camera = new DeviceControl('camera', actions);
    this.captionsControl = new Control({
      label: 'Live captions',
      icon: 'captions',
      key: 'C',
      onclick: () => this.toggleCaptions(),
    });
    this.panelControl = new Control({
      label: 'Conversation',
      icon: 'conversation',
      key: 'T',
      onclick: () => this.togglePanel(),
    });
    this.panelControl.element.append(this.badge);
    const devices = new Control({ label: 'Devices', icon: 'devices', onclick: openDevices, className: 'secondary' });
    const leave = new Control({ label: 'Leave', icon: 'leave', onclick: () => actions.leave(), className: 'leave' });
    this.sound = h(
      'button',
      { type: 'button', class: 'button primary sound', onclick: () => actions.startAudio() },
      icon('speaker', 18),
      'Turn sound on',
    );

    const copy = h(
      'button',
      {
        type: 'button',
        class: 'icon-button',
        'aria-label': 'Copy invite link',
        title: 'Copy invite link',
        onclick: () => actions.copyLink(),
      },
      icon('link', 18),
    );
    this.status = h(
      'div',
      { class: 'rtt', title: 'Round trip to the server' },
      h('i', { 'aria-hidden': 'true' }),
      h('span', { class: 'sr-only' }, 'Round trip '),
      this.roundTrip,
    );
    const bar = h('header', { class: 'bar' }, mark(24), this.title, copy, this.status);
    const stage = h(
      'main',
      { class: 'stage', 'aria-label': 'Participants' },
      this.stage.element,
      this.captions.element,
      h('div', { class: 'overlays' }, this.banner, this.toast),
      this.sound,
    );
    const close = h(
      'button',
      {
        type: 'button',
        class: 'icon-button panel-close',
        'aria-label': 'Close conversation',
        onclick: () => this.togglePanel(),
      },
      icon('close', 18),
    );
    const head = h('div', { class: 'panel-head' }, h('h2', {}, 'Conversation'), close);
    this.panel = h(
      'aside',
      { class: 'panel', 'aria-label': 'Conversation' },
      head,
      this.latency.element,
      this.conversation.element,
      this.composer.element,
    );
    const controls = h(
      'footer',
      { class: 'controls', role: 'group', 'aria-label': 'Call controls' },
      this.microphone.element,
      this.camera.element,
      this.captionsControl.element,
      this.panelControl.element,
      devices.element,
      leave.element,
    );
    this.element = h('div', { class: 'call' }, bar, stage, this.panel, controls);
  }

  focus(): void {
    this.title.focus({ preventScroll: true });
  }

  /** Opens the conversation and puts the cursor into the message field. */
  compose(): void {
    if (!this.store.state.panelOpen) this.store.dispatch({ type: 'panel', open: true });
    this.panel.hidden = false;
    this.composer.focus();
  }

  toggleCaptions(): void {
    this.store.dispatch({ type: 'captions', on: !this.store.state.captionsOn });
  }

  togglePanel(): void {
    const open = !this.store.state.panelOpen;
    this.store.dispatch({ type: 'panel', open });
    if (!open && this.panel.contains(document.activeElement)) this.panelControl.element.focus();
  }

  update(state: State): void {
    setText(this.title, state.room);
    setText(this.roundTrip, formatMs(state.roundTrip));
    setAttribute(this.status, 'data-link', state.link);
    this.element.classList.toggle('is-reconnecting', state.link !== 'good');
    setText(this.banner, LINK_TEXT[state.link]);
    this.sound.hidden = !state.audioBlocked;
    this.stage.update(state);
    this.captions.update(state);
    this.conversation.update(state);
    this.latency.update(state);
    this.microphone.update(state.devices.microphone);
    this.camera.update(state.devices.camera);
    this.captionsControl.press(state.captionsOn);
    this.captionsControl.show('captions', state.captionsOn ? 'Hide captions' : 'Show captions');
    this.panel.hidden = !state.panelOpen;
    this.element.classList.toggle('panel-open', state.panelOpen);
    this.panelControl.show('conversation', state.panelOpen ? 'Hide conversation' : 'Show conversation');
    setAttribute(this.panelControl.element, 'aria-expanded', String(state.panelOpen));
    this.badge.hidden = state.unread === 0;
    setText(this.badge, state.unread > 9 ? '9+' : String(state.unread));
    setAttribute(
      this.panelControl.element,
      'aria-label',
      state.unread ? `Conversation, ${state.unread} unread` : 'Conversation',
    );
    this.showNotice(state);
  }

  private showNotice({ notice }: State): void {
    if (notice === this.shownNotice) return;
    this.shownNotice = notice;
    if (!notice) return this.toast.replaceChildren();
    const close = h(
      'button',
      { type: 'button', class: 'icon-button', 'aria-label': 'Dismiss', onclick: () => this.actions.dismissNotice() },
      icon('close', 16),
    );
    this.toast.replaceChildren(
      h(
        'div',
        { class: `toast ${notice.tone}` },
        icon(notice.tone === 'warning' ? 'warning' : 'check', 18),
        h('p', {}, notice.text),
        close,
      ),
    );
  }

  private leaveComposer(): void {
    // On a phone the conversation covers the call, so Escape closes it; beside the call it only leaves the field.
    if (matchMedia('(max-width: 859px)').matches) this.togglePanel();
    else this.microphone.element.focus();
  }
}
