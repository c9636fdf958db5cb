// The watchdog of src/durable/watchdog.ts, on the timeline of the simulator.

import { MAX_TICK_MS } from '../../../src/core/limits.ts';
import { beaten, lookedAfter, type Pulse } from '../../../src/core/pulse.ts';
import { takeOver } from '../../../src/cron/watchdog.ts';
import type { Beat } from '../../../src/durable/watchdog.ts';
import type { Event } from './timeline.ts';
import type { World } from './world.ts';

export class Watchdog {
  readonly #world: World;
  #pulse: Pulse | undefined;
  #alarm: Event | undefined;
  #busyUntil = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Nobody ticks but this one. */
  get isAlone(): boolean {
    return this.#world.cronStops && this.#pulse !== undefined;
  }

  beat(): Beat {
    const before = this.#pulse;
    this.#keep(beaten(this.#world.timeline.now));
    return { silentSince: before?.phase === 'silent' ? before.beatAt : null };
  }

  #keep(pulse: Pulse): void {
    this.#pulse = pulse;
    if (this.#alarm !== undefined) this.#alarm.run = undefined;
    this.#alarm = this.#world.timeline.at(pulse.looksAt, () => void this.#look(pulse));
  }

  async #look(before: Pulse): Promise<void> {
    const { pulse, isDue } = lookedAfter(before, this.#world.timeline.now);
    this.#keep(pulse);
    const { now } = this.#world.timeline;
    if (!isDue || now < this.#busyUntil) return;
    // R2 or KV may hang in a tick without end: then another is begun beside it.
    const mine = now + MAX_TICK_MS;
    this.#busyUntil = mine;
    const ended = await this.#world.invoke('watchdog', this.#world.machines.any(), (rt) =>
      takeOver(rt, this.#world.bootId, { silentSince: pulse.beatAt }),
    );
    if (this.#busyUntil === mine) this.#busyUntil = 0;
    if (ended.kind === 'failed') this.#world.violate('tick', undefined, `a take-over threw ${String(ended.error)}`);
  }
}
