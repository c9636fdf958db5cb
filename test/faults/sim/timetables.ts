// Schedules of a seed: what they say, what they run, and what people do to them. Drawn apart from everything else, so that
// a seed without schedules is what it was before there were any.

import type { Json } from '../../../src/core/json.ts';
import { CATCH_UPS, OVERLAP_POLICIES } from '../../../src/store/schedules.ts';
import { Prng } from './prng.ts';
import type { Behaviour, Plan } from './workload.ts';

/** Runs of schedules have plans from this number on: one a schedule. */
export const FIRST_TIMETABLE = 1_000;

export type Deed = 'pause' | 'resume' | 'edit' | 'move' | 'delete' | 'create' | 'run' | 'backfill';

export interface Timetable {
  readonly name: string;
  readonly plan: Plan;
  /** What it says at first, without its input. */
  readonly body: Readonly<Record<string, Json>>;
  /** In ms since the seed began. */
  readonly deeds: readonly { readonly at: number; readonly deed: Deed }[];
  /** Other intervals it is moved to. */
  readonly moves: readonly string[];
}

const EVERY = ['10s', '15s', '30s', '60s', '120s', '300s', '600s'] as const;
const MOST_DUE = 30;

/** None in most seeds. */
export function drawTimetables(seed: number, start: number, spanMs: number): readonly Timetable[] {
  const random = new Prng(seed ^ 0x5c4ed01e);
  if (!random.chance(0.35)) return [];
  return Array.from({ length: random.between(1, 3) }, (_, at) => drawTimetable(random, at, start, spanMs));
}

function drawTimetable(random: Prng, at: number, start: number, spanMs: number): Timetable {
  const every = random.pick(EVERY);
  const everyMs = Number.parseInt(every, 10) * 1_000;
  // Due until a while after the last fault, or less often: what was missed in the end is made good as well.
  const from = random.between(0, spanMs / 2);
  const until = Math.min(spanMs + random.between(60_000, 240_000), from + MOST_DUE * everyMs);
  const name = `schedule-${String(at)}`;
  const n = FIRST_TIMETABLE + at;
  const catchUp = random.pick(CATCH_UPS);
  return {
    name,
    plan: planOf(random, n, everyMs),
    body: {
      ...(everyMs >= 60_000 && random.chance(0.5) ? { cron: `*/${String(everyMs / 60_000)} * * * *` } : { every }),
      overlap: random.pick(OVERLAP_POLICIES),
      catch_up: catchUp === 'all' && random.chance(0.3) ? { all: random.between(1, 6) } : catchUp,
      jitter: random.chance(0.3) ? random.between(1, 90) : 0,
      ends_at: new Date(Math.floor((start + until) / 1_000) * 1_000).toISOString(),
    },
    deeds: drawDeeds(random, from, until),
    moves: ['20s', '40s', '90s', '180s'],
  };
}

function drawDeeds(random: Prng, from: number, until: number): Timetable['deeds'] {
  const some: Deed[] = random.chance(0.25)
    ? []
    : Array.from({ length: random.between(1, 6) }, () =>
        random.pick<Deed>(['pause', 'resume', 'edit', 'edit', 'move', 'delete', 'create', 'run', 'backfill']),
      );
  const deeds = some.map((deed) => ({ at: random.between(from, until), deed }));
  // Whoever deletes or pauses often means it for a moment only; and two people may do the same at one moment.
  const more = deeds.flatMap(({ at, deed }): { at: number; deed: Deed }[] => {
    const later = at + random.between(0, 40_000);
    if (deed === 'delete' && random.chance(0.7)) return [{ at: later, deed: 'create' }];
    if (deed === 'pause' && random.chance(0.7)) return [{ at: later, deed: 'resume' }];
    return random.chance(0.4) ? [{ at: at + random.between(0, 40), deed: random.pick([deed, 'edit', 'move']) }] : [];
  });
  return [{ at: from, deed: 'create' }, ...deeds, ...more];
}

function planOf(random: Prng, n: number, everyMs: number): Plan {
  const behaviour = drawBehaviour(random, everyMs);
  const maxRetries = random.between(0, 3);
  const limited = random.chance(0.15);
  const expires = random.chance(0.15) ? random.between(5, 90) : undefined;
  return {
    n,
    at: 0,
    behaviour,
    maxRetries,
    call: {
      task: limited ? 'sim.limited' : 'sim.job',
      input: { n, ...(limited ? { key: 'a' } : {}) },
      options: {
        max_retries: maxRetries,
        retry_delays: [random.pick([0, 1, 3, 10])],
        tags: [String(n)],
        queue: random.pick(['default', 'default', 'email', 'critical']),
        ...(expires === undefined ? {} : { expires }),
        ...(behaviour.kind === 'sleep' && behaviour.overruns ? { time_limit: 20, soft_time_limit: 15 } : {}),
      },
    },
    largeResult: false,
    keyed: false,
    lockKey: limited ? 'a' : undefined,
    repeats: [],
    revokes: [],
    hook: random.pick(['fine', 'fine', 'throws']),
    expected: undefined,
  };
}

// Some longer than the time between two of them, but not so that those that are made good take hours.
function drawBehaviour(random: Prng, everyMs: number): Behaviour {
  const drawn = random.fraction();
  if (drawn < 0.4) return { kind: 'quick', ms: random.between(0, 300) };
  const most = Math.min(60_000, everyMs * 1.5);
  if (drawn < 0.7)
    return { kind: 'sleep', ms: random.between(1_000, most), obeys: random.chance(0.5), overruns: false };
  // Each costs up to four attempts of 20 s.
  const overruns = everyMs >= 60_000;
  if (drawn < 0.75) return { kind: 'sleep', ms: overruns ? 40_000 : most, obeys: false, overruns };
  if (drawn < 0.9)
    return { kind: 'flaky', ms: random.between(0, 2_000), fails: random.between(1, 3), retryAfter: undefined };
  return { kind: 'defer', times: 1, seconds: random.between(0, 20) };
}
