/** Puts the views on the page and shows the one of the present phase. */
import type { Actions } from './actions';
import type { State } from './model';
import { listenForShortcuts, type Shortcuts } from './shortcuts';
import type { Store } from './store';
import { CallView } from './views/call';
import { DeviceDialog } from './views/device-dialog';
import { EndedView } from './views/ended';
import { LobbyView } from './views/lobby';

export function mount(root: HTMLElement, store: Store, actions: Actions): void {
  const dialog = new DeviceDialog(actions);
  const openDevices = () => void dialog.open();
  const lobby = new LobbyView(store, actions, openDevices);
  const call = new CallView(store, actions, openDevices);
  const ended = new EndedView(actions);
  const views = { lobby, joining: lobby, call, ended };
  let shown: (typeof views)[State['phase']] | null = null;

  root.replaceChildren(dialog.element);
  store.subscribe((state) => {
    const view = views[state.phase];
    if (view !== shown) {
      shown?.element.remove();
      root.prepend(view.element);
    }
    view.update(state);
    document.title = state.phase === 'call' ? `${state.room} \u00b7 Greenroom` : 'Greenroom';
    if (view !== shown) view.focus();
    shown = view;
  });

  listenForShortcuts(document, (): Shortcuts => {
    const { phase } = store.state;
    const devices: Shortcuts = { m: () => actions.toggle('microphone'), v: () => actions.toggle('camera') };
    if (phase === 'lobby') return devices;
    if (phase !== 'call') return {};
    return {
      ...devices,
      c: () => call.toggleCaptions(),
      t: () => call.compose(),
    };
  });
}
