/** Buttons that both the lobby and the call have, with tooltips that name the shortcut. */
import type { Actions } from '../actions';
import { h, setAttribute, setText } from '../dom';
import { icon, type IconName } from '../icons';
import type { DeviceKind, DeviceStatus } from '../model';

export interface ControlOptions {
  label: string;
  icon: IconName;
  /** Shown and announced; the key itself is handled in shortcuts.ts. */
  key?: string;
  onclick: () => void;
  className?: string;
}

export class Control {
  readonly element: HTMLButtonElement;
  private readonly tip = h('span', { class: 'tip-text' });
  private readonly art = h('span', { class: 'control-icon' });
  private shown: IconName | null = null;

  constructor(options: ControlOptions) {
    const key = options.key ? h('kbd', {}, options.key) : null;
    this.element = h(
      'button',
      {
        type: 'button',
        class: `control ${options.className ?? ''}`,
        'aria-label': options.label,
        'aria-keyshortcuts': options.key?.toLowerCase(),
        onclick: options.onclick,
      },
      this.art,
      h('span', { class: 'tip', 'aria-hidden': 'true' }, this.tip, key),
    );
    this.show(options.icon, options.label);
  }

  show(name: IconName, tip: string): void {
    if (this.shown !== name) this.art.replaceChildren(icon(name));
    this.shown = name;
    setText(this.tip, tip);
  }

  press(pressed: boolean): void {
    setAttribute(this.element, 'aria-pressed', String(pressed));
  }
}

const DEVICES = {
  microphone: { label: 'Microphone', key: 'M', on: 'microphone', off: 'microphoneOff' },
  camera: { label: 'Camera', key: 'V', on: 'camera', off: 'cameraOff' },
} as const;

export class DeviceControl {
  readonly element: HTMLButtonElement;
  private readonly control: Control;

  constructor(
    private readonly kind: DeviceKind,
    actions: Actions,
  ) {
    const { label, key, off } = DEVICES[kind];
    this.control = new Control({ label, key, icon: off, onclick: () => actions.toggle(kind), className: 'device' });
    this.element = this.control.element;
  }

  update(status: DeviceStatus): void {
    const { label, on, off } = DEVICES[this.kind];
    const isOn = status === 'on';
    const tip = status === 'asking' ? `Waiting for the ${this.kind}` : `Turn ${this.kind} ${isOn ? 'off' : 'on'}`;
    this.control.show(isOn ? on : off, tip);
    this.control.press(isOn);
    setAttribute(this.element, 'aria-busy', status === 'asking' ? 'true' : null);
    setAttribute(this.element, 'data-status', status);
    setAttribute(this.element, 'aria-label', isTrouble(status) ? `${label}, not available` : label);
  }
}

export function isTrouble(status: DeviceStatus): boolean {
  return status !== 'on' && status !== 'off' && status !== 'asking';
}
