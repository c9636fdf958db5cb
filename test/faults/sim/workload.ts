// What a seed asks of the product: some forty jobs of every kind, who revokes them, and who runs failed ones again.

import type { Json } from '../../../src/core/json.ts';
import type { State } from '../../../src/core/states.ts';
import type { Weather } from './faults.ts';
import type { Prng } from './prng.ts';

/** What the handler of a job does. */
export type Behaviour =
  | { readonly kind: 'quick'; readonly ms: number }
  | { readonly kind: 'sleep'; readonly ms: number; readonly obeys: boolean; readonly overruns: boolean }
  | { readonly kind: 'flaky'; readonly ms: number; readonly fails: number; readonly retryAfter: number | undefined }
  | { readonly kind: 'discard' }
  | { readonly kind: 'defer'; readonly times: number; readonly seconds: number }
  | { readonly kind: 'kill'; readonly ms: number };

export interface Plan {
  readonly n: number;
  /** When it is submitted, in ms since the seed began. */
  readonly at: number;
  readonly behaviour: Behaviour;
  /** How often it may be tried again. */
  readonly maxRetries: number;
  readonly call: Json;
  /** Whether its result is too large for a row. */
  readonly largeResult: boolean;
  readonly keyed: boolean;
  /** What its lock is told apart by; undefined where it takes from no limit. */
  readonly lockKey: string | undefined;
  /** When the same keyed call is made once more, in ms after the first; 0 is the same moment. */
  readonly repeats: readonly number[];
  readonly revokes: readonly { readonly after: number; readonly terminate: boolean }[];
  readonly hook: 'fine' | 'throws' | 'hangs';
  /** How it ends and how often it runs where nothing goes wrong; undefined where that hangs on the moment. */
  readonly expected: { readonly state: State; readonly runs: number } | undefined;
}

// Larger than what rides in a row or a message.
const LARGE_INPUT = 'i'.repeat(96_100);

const QUEUES = ['default', 'default', 'default', 'email', 'bulk', 'critical', 'memory'] as const;

export function drawPlans(random: Prng, weather: Weather, spanMs: number): readonly Plan[] {
  const count = random.between(30, 48);
  const killers = drawKillers(random, weather);
  const plans = Array.from({ length: count }, (_, n) => drawPlan(random, n, spanMs, n < killers));
  return plans;
}

function drawKillers(random: Prng, weather: Weather): number {
  if (weather === 'calm') return 0;
  if (weather === 'killers') return random.between(1, 3);
  return random.chance(0.3) ? random.between(1, 2) : 0;
}

function drawPlan(random: Prng, n: number, spanMs: number, kills: boolean): Plan {
  const behaviour = kills ? ({ kind: 'kill', ms: random.between(0, 5_000) } as const) : drawBehaviour(random);
  const maxRetries = random.between(0, 4);
  const keyed = random.chance(0.4);
  const revoked = !kills && random.chance(0.15);
  const countdown = random.chance(0.25) ? random.between(1, 200) : undefined;
  const expires = random.chance(0.1) ? random.between(1, 90) : undefined;
  const secret = random.chance(0.06);
  // Of those that end their isolate at most one has a lock: each holds it for as long as its leases take to run out.
  const limited = !secret && (!kills || n === 0) && random.chance(0.25);
  const lockKey = limited ? random.pick(['a', 'a', 'b']) : undefined;
  const options: Record<string, Json> = {
    max_retries: maxRetries,
    retry_delays: Array.from({ length: random.between(1, 3) }, () => random.pick([0, 1, 3, 10, 30, 75])),
    tags: [String(n)],
    queue: behaviour.kind === 'quick' ? random.pick(QUEUES) : 'default',
    ...(keyed ? { idempotency_key: `key-${String(n)}` } : {}),
    ...(countdown === undefined ? {} : { countdown }),
    ...(expires === undefined ? {} : { expires }),
    ...(random.chance(0.2) ? { priority: random.between(4, 7) } : {}),
    ...(secret ? { result_ttl: random.between(30, 120) } : {}),
    ...limitsOf(behaviour),
  };
  return {
    n,
    at: random.between(0, spanMs),
    behaviour,
    maxRetries,
    call: {
      task: secret ? 'sim.secret' : lockKey === undefined ? 'sim.job' : 'sim.limited',
      input: {
        n,
        ...(random.chance(secret ? 0.4 : 0.04) ? { pad: LARGE_INPUT } : {}),
        ...(lockKey === undefined ? {} : { key: lockKey }),
      },
      options,
    },
    largeResult: random.chance(secret || behaviour.kind === 'sleep' ? 0.4 : 0.05),
    keyed,
    lockKey,
    repeats: keyed ? drawRepeats(random) : [],
    revokes: revoked ? drawRevokes(random) : [],
    hook: random.pick(['fine', 'fine', 'fine', 'throws', 'hangs']),
    expected: revoked || expires !== undefined ? undefined : expectedOf(behaviour, maxRetries),
  };
}

function drawBehaviour(random: Prng): Behaviour {
  const drawn = random.fraction();
  if (drawn < 0.45) return { kind: 'quick', ms: random.between(0, 300) };
  if (drawn < 0.65) {
    const overruns = random.chance(0.2);
    const ms = (overruns ? random.between(40, 120) : random.between(1, 200)) * 1_000;
    return { kind: 'sleep', ms, obeys: random.chance(0.5), overruns };
  }
  if (drawn < 0.85) {
    const retryAfter = random.chance(0.3) ? random.between(0, 20) : undefined;
    return { kind: 'flaky', ms: random.between(0, 2_000), fails: random.between(1, 4), retryAfter };
  }
  if (drawn < 0.92) return { kind: 'discard' };
  return { kind: 'defer', times: random.between(1, 3), seconds: random.between(0, 90) };
}

function limitsOf(behaviour: Behaviour): Record<string, Json> {
  if (behaviour.kind !== 'sleep') return {};
  if (behaviour.overruns) return { time_limit: 20, soft_time_limit: 15 };
  return { time_limit: Math.ceil(behaviour.ms / 1_000) + 30, soft_time_limit: Math.ceil(behaviour.ms / 1_000) + 20 };
}

function drawRepeats(random: Prng): readonly number[] {
  const together = Array.from({ length: random.between(0, 3) }, () => random.between(0, 1) * random.between(0, 3_000));
  const later = Array.from({ length: random.between(0, 2) }, () => random.between(5, 240) * 1_000);
  return [...together, ...later];
}

function drawRevokes(random: Prng): Plan['revokes'] {
  return Array.from({ length: random.between(1, 2) }, () => ({
    after: random.between(0, 120_000),
    terminate: random.chance(0.5),
  }));
}

function expectedOf(behaviour: Behaviour, maxRetries: number): Plan['expected'] {
  switch (behaviour.kind) {
    case 'quick':
      return { state: 'SUCCESS', runs: 1 };
    case 'sleep':
      return behaviour.overruns ? { state: 'FAILURE', runs: maxRetries + 1 } : { state: 'SUCCESS', runs: 1 };
    case 'flaky': {
      const fails = behaviour.fails > maxRetries;
      return { state: fails ? 'FAILURE' : 'SUCCESS', runs: Math.min(behaviour.fails, maxRetries) + 1 };
    }
    case 'discard':
      return { state: 'FAILURE', runs: 1 };
    case 'defer':
      return { state: 'SUCCESS', runs: behaviour.times + 1 };
    case 'kill':
      return { state: 'FAILURE', runs: 4 };
  }
}
