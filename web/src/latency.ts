/** Per-turn latency as agents report it on the text-stream topic `greenroom.turn`, and how it is written. */

export const STAGES = ['endpointing', 'transcription', 'llm_first_token', 'tts_first_audio', 'playout'] as const;
export type Stage = (typeof STAGES)[number];

export const STAGE_NAMES: Record<Stage, { short: string; long: string }> = {
  endpointing: { short: 'Pause', long: 'Waiting to be sure that you had finished' },
  transcription: { short: 'Hearing', long: 'Final transcription' },
  llm_first_token: { short: 'Model', long: 'First word of the answer' },
  tts_first_audio: { short: 'Voice', long: 'First sound of the answer' },
  playout: { short: 'Playing', long: 'Until that sound left the agent' },
};

export interface Turn {
  turn: number;
  user: string;
  agent: string;
  /** Milliseconds; stages that were not measured are absent. */
  ms: Partial<Record<Stage, number>>;
  total: number;
  interrupted: boolean;
  /** What went wrong; '' when nothing did. */
  error: string;
}

export const MAX_TURNS = 50;

/** A turn from the message's text; null for anything that is not one. */
export function parseTurn(text: string): Turn | null {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof raw !== 'object' || raw === null) return null;
  const { turn, user, agent, ms, interrupted, error } = raw as Record<string, unknown>;
  if (typeof ms !== 'object' || ms === null) return null;
  const values = ms as Record<string, unknown>;
  const stages: Partial<Record<Stage, number>> = {};
  for (const stage of STAGES) if (isDuration(values[stage])) stages[stage] = values[stage];
  const sum = Object.values(stages).reduce((total, value) => total + value, 0);
  const total = isDuration(values.total) ? values.total : sum;
  if (!isDuration(values.total) && !Object.keys(stages).length) return null;
  return {
    turn: typeof turn === 'number' ? turn : 0,
    user: typeof user === 'string' ? user : '',
    agent: typeof agent === 'string' ? agent : '',
    ms: stages,
    total,
    interrupted: interrupted === true,
    error: typeof error === 'string' ? error : '',
  };
}

function isDuration(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

/** "84 ms", "1.24 s": three figures at most, so that the width hardly changes. Null is an en dash. */
export function formatMs(ms: number | null): string {
  if (ms === null || !Number.isFinite(ms)) return '\u2013';
  if (ms > 0 && ms < 1) return '<1\u202Fms';
  if (ms < 999.5) return `${Math.round(ms)}\u202Fms`;
  const seconds = ms / 1000;
  return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)}\u202Fs`;
}

export function median(values: readonly number[]): number | null {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Each stage's share of the bar (0 to 1). Stages overlap in a pipelined agent, so the bar is the sum of what was reported. */
export function shares(turn: Turn): { stage: Stage; share: number }[] {
  const whole = Math.max(
    turn.total,
    Object.values(turn.ms).reduce((sum, value) => sum + value, 0),
  );
  if (whole <= 0) return [];
  return STAGES.filter((stage) => turn.ms[stage] !== undefined).map((stage) => ({
    stage,
    share: turn.ms[stage]! / whole,
  }));
}

/** "4:07" or "1:02:09". */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (value: number) => String(value).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
