// What goes wrong in a seed, and how often. Each seed draws its own rates, and many of them are zero: a swarm of mixes
// finds what one mix of everything hides.

import type { Prng } from './prng.ts';

/** Every kind of fault, and the most often it may happen: per call, per message, per minute. */
const MOST = {
  'db.error': 0.25,
  'db.lied': 0.2,
  'db.late': 0.15,
  'db.hang': 0.04,
  'db.hang-after': 0.04,
  'db.stall': 0.2,
  'db.outage': 1,
  'send.refused': 0.5,
  'send.lied': 0.3,
  'send.hang': 0.1,
  'send.outage': 1,
  'replay.error': 0.3,
  'replay.lied': 0.3,
  'replay.hang': 0.1,
  'limit.error': 0.3,
  'limit.lied': 0.3,
  'limit.hang': 0.1,
  'payload.error': 0.3,
  'payload.lied': 0.2,
  'payload.hang': 0.1,
  'stream.error': 0.3,
  'stream.lied': 0.3,
  'stream.hang': 0.1,
  'call.cancelled': 0.01,
  'crash.before': 0.01,
  'crash.after': 0.01,
  'crash.anytime': 0.5,
  'machine.crash': 0.4,
  freeze: 1,
  'message.lost': 0.4,
  'message.doubled': 0.4,
  'message.late': 0.3,
  'message.worn': 0.1,
  'ack.lost': 0.2,
  'tick.missing': 0.5,
  'tick.doubled': 0.4,
  'tick.late': 0.4,
  garbage: 0.5,
} as const;
export type FaultKind = keyof typeof MOST;
export const FAULT_KINDS = Object.keys(MOST) as readonly FaultKind[];

/**
 * `calm`: nothing goes wrong. `killers`: nothing but tasks that end their isolate. `local`: one machine that forgets its
 * queues when it dies. `swarm`: everything else.
 */
export type Weather = 'calm' | 'killers' | 'local' | 'swarm';

interface Span {
  readonly from: number;
  readonly until: number;
}

/** How calls to one far side may fail. */
export interface FarSide {
  readonly error: FaultKind;
  readonly lied: FaultKind;
  readonly late?: FaultKind;
  readonly hang: FaultKind;
  readonly hangAfter?: FaultKind;
  readonly stall?: FaultKind;
  readonly outage?: FaultKind;
}

export const DATABASE = {
  error: 'db.error',
  lied: 'db.lied',
  late: 'db.late',
  hang: 'db.hang',
  hangAfter: 'db.hang-after',
  stall: 'db.stall',
  outage: 'db.outage',
} as const satisfies FarSide;
export const LIMITS = {
  error: 'limit.error',
  lied: 'limit.lied',
  hang: 'limit.hang',
} as const satisfies FarSide;
export const SENDS = {
  error: 'send.refused',
  lied: 'send.lied',
  hang: 'send.hang',
  outage: 'send.outage',
} as const satisfies FarSide;
export const REPLAY = { error: 'replay.error', lied: 'replay.lied', hang: 'replay.hang' } as const satisfies FarSide;
export const STREAMS = { error: 'stream.error', lied: 'stream.lied', hang: 'stream.hang' } as const satisfies FarSide;
export const PAYLOADS = {
  error: 'payload.error',
  lied: 'payload.lied',
  hang: 'payload.hang',
} as const satisfies FarSide;

/**
 * `error` and `hang`: without effect. `lied` and `hang-after`: with it. `late`: it fails, and takes effect all the same
 * after a while. `stall`: the answer is late, before or after the effect.
 */
export type Fate = 'ok' | 'error' | 'lied' | 'late' | 'hang' | 'hang-after' | 'stall';

export class Faults {
  readonly weather: Weather;
  /** From then on nothing goes wrong any more. */
  readonly until: number;
  readonly counts = new Map<FaultKind, number>();
  readonly #random: Prng;
  readonly #rates = new Map<FaultKind, number>();
  readonly #outages = new Map<FaultKind, readonly Span[]>();
  #on = true;

  constructor(random: Prng, start: number) {
    this.#random = random;
    this.weather = drawWeather(random);
    this.until = start + random.between(10, 20) * 60_000;
    for (const kind of FAULT_KINDS) {
      const wanted = random.chance(0.5) ? MOST[kind] * random.fraction() ** 2 : 0;
      this.#rates.set(kind, isPossible(this.weather, kind) ? wanted : 0);
    }
    for (const kind of ['db.outage', 'send.outage'] as const) {
      const spans = isPossible(this.weather, kind) && random.chance(0.3) ? random.between(1, 3) : 0;
      this.#outages.set(
        kind,
        Array.from({ length: spans }, () => {
          const from = random.between(start, this.until);
          return { from, until: from + random.between(5, 240) * 1_000 };
        }),
      );
    }
  }

  /** Whether a fault of this kind happens now; counted when it does. */
  strikes(kind: FaultKind): boolean {
    if (!this.#on || !this.#random.chance(this.#rates.get(kind) ?? 0)) return false;
    this.#count(kind);
    return true;
  }

  /** What becomes of one call. */
  fateOf(side: FarSide, now: number): Fate {
    if (!this.#on) return 'ok';
    if (side.outage !== undefined && this.#isOut(side.outage, now)) {
      this.#count(side.outage);
      return this.#random.pick(['error', 'error', 'error', 'lied', 'hang', 'hang-after'] as const);
    }
    if (this.strikes(side.error)) return 'error';
    if (this.strikes(side.lied)) return 'lied';
    if (side.late !== undefined && this.strikes(side.late)) return 'late';
    if (this.strikes(side.hang)) return 'hang';
    if (side.hangAfter !== undefined && this.strikes(side.hangAfter)) return 'hang-after';
    if (side.stall !== undefined && this.strikes(side.stall)) return 'stall';
    return 'ok';
  }

  end(): void {
    this.#on = false;
  }

  get on(): boolean {
    return this.#on;
  }

  #isOut(kind: FaultKind, now: number): boolean {
    return (this.#outages.get(kind) ?? []).some(({ from, until }) => from <= now && now < until);
  }

  #count(kind: FaultKind): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }
}

function drawWeather(random: Prng): Weather {
  const drawn = random.fraction();
  if (drawn < 0.08) return 'calm';
  if (drawn < 0.18) return 'killers';
  return drawn < 0.32 ? 'local' : 'swarm';
}

// A local database stands in the process itself: it does not fall silent, and what it answers is so.
function isPossible(weather: Weather, kind: FaultKind): boolean {
  switch (weather) {
    case 'calm':
      return false;
    case 'killers':
      return kind.startsWith('message.') || kind.startsWith('tick.') || kind === 'ack.lost' || kind === 'garbage';
    case 'local':
      return !kind.startsWith('db.') && kind !== 'message.lost';
    case 'swarm':
      return kind !== 'machine.crash';
  }
}
