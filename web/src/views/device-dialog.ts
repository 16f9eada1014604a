/** Choosing microphone, camera and loudspeaker. */
import type { Actions } from '../actions';
import { h } from '../dom';
import { icon } from '../icons';

const KINDS: { kind: MediaDeviceKind; label: string; none: string }[] = [
  { kind: 'audioinput', label: 'Microphone', none: 'No microphone found' },
  { kind: 'videoinput', label: 'Camera', none: 'No camera found' },
  { kind: 'audiooutput', label: 'Loudspeaker', none: 'As the system has it' },
];

export class DeviceDialog {
  readonly element: HTMLDialogElement;
  private readonly selects = new Map<MediaDeviceKind, HTMLSelectElement>();

  constructor(private readonly actions: Actions) {
    const fields = KINDS.map(({ kind, label }) => {
      const select = h('select', { onchange: () => actions.chooseDevice(kind, select.value) });
      this.selects.set(kind, select);
      return h('label', { class: 'field' }, h('span', {}, label), select);
    });
    const close = h(
      'button',
      { type: 'button', class: 'icon-button', 'aria-label': 'Close', onclick: () => this.element.close() },
      icon('close'),
    );
    const done = h('button', { type: 'button', class: 'button primary', onclick: () => this.element.close() }, 'Done');
    const head = h('div', { class: 'dialog-head' }, h('h2', { id: 'devices-title' }, 'Devices'), close);
    const hint = h('p', { class: 'hint' }, 'Names appear once the browser may use a device.');
    this.element = h('dialog', { class: 'dialog', 'aria-labelledby': 'devices-title' }, head, ...fields, hint, done);
    this.element.addEventListener('click', (event) => {
      if (event.target === this.element) this.element.close(); // the backdrop
    });
    navigator.mediaDevices?.addEventListener('devicechange', () => this.element.open && void this.fill());
  }

  async open(): Promise<void> {
    this.element.showModal();
    await this.fill();
  }

  private async fill(): Promise<void> {
    for (const { kind, label, none } of KINDS) {
      const { devices, current } = await this.actions.listDevices(kind);
      const select = this.selects.get(kind)!;
      const options = devices.map((device, index) =>
        h('option', { value: device.deviceId }, device.label || `${label} ${index + 1}`),
      );
      select.replaceChildren(...(options.length ? options : [h('option', { value: '' }, none)]));
      select.disabled = !options.length;
      if (devices.some((device) => device.deviceId === current)) select.value = current;
    }
  }
}
