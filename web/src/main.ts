import './styles/base.css';
import './styles/controls.css';
import './styles/lobby.css';
import './styles/tiles.css';
import './styles/call.css';
import './styles/panel.css';
import { LogLevel, setLogLevel } from 'livekit-client';
import { App } from './app';
import { recall } from './memory';
import { mount } from './mount';
import { initialState } from './state';
import { Store } from './store';

// Reconnecting is on the page already; the console is for what is not.
setLogLevel(LogLevel.error);

const memory = recall();
const room = new URLSearchParams(location.search).get('room')?.trim() || 'playground';
const store = new Store(initialState(memory.name, room, matchMedia('(min-width: 860px)').matches));
const app = new App(store, memory);
mount(document.getElementById('app')!, store, app);
app.start();
