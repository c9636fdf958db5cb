// The pulse of the cron trigger: when it ticked, and from when on somebody else has to do its work.

import { z } from 'zod';
import { ALARM_LATE_MS, CRON_SILENT_AFTER_MS, TAKE_OVER_EVERY_MS } from './limits.ts';

/** As it is stored. Instants are epoch milliseconds of one clock. */
const pulseShape = z
  .object({
    v: z.literal(1),
    /** The last tick. */
    beatAt: z.number(),
    /** When somebody looks after it: until then nothing is missing. */
    looksAt: z.number(),
    /** `overslept`: whoever should have looked was away himself, so the trigger is given a little time as well. */
    phase: z.enum(['beating', 'overslept', 'silent']),
  })
  .readonly();
export type Pulse = z.infer<typeof pulseShape>;

/** undefined where there is none, or none that this deployment understands. */
export function readPulse(stored: unknown): Pulse | undefined {
  return pulseShape.safeParse(stored).data;
}

/** The trigger has ticked. */
export function beaten(now: number): Pulse {
  return { v: 1, beatAt: now, looksAt: now + CRON_SILENT_AFTER_MS, phase: 'beating' };
}

/** Somebody looks, maybe too early, twice or much too late. `isDue`: the tick's work is to be done now. */
export function lookedAfter(pulse: Pulse, now: number): { readonly pulse: Pulse; readonly isDue: boolean } {
  if (now < pulse.looksAt) return { pulse, isDue: false };
  const phase = pulse.phase === 'beating' && now - pulse.looksAt > ALARM_LATE_MS ? 'overslept' : 'silent';
  return { pulse: { ...pulse, phase, looksAt: now + TAKE_OVER_EVERY_MS }, isDue: phase === 'silent' };
}
