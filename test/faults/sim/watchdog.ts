// The watchdog of src/durable/watchdog.ts, on the timeline of the simulator.

import { takeOver } from '../../../src/cron/watchdog.ts';
import { beaten, lookedAfter, type Pulse } from '../../../src/core/pulse.ts';
import type { Beat } from '../../../src/durable/watchdog.ts';
import type { Event } from './timeline.ts';
import type { World } from './world.ts';

export class Watchdog {
  readonly #world: World;
  #pulse: Pulse | undefined;
  #alarm: Event | undefined;
  #isBusy = false;

  constructor(world: World) {
    this.#world = world;
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
    if (!isDue || this.#isBusy) return;
    this.#isBusy = true;
    const ended = await this.#world.invoke('watchdog', this.#world.machines.any(), (rt) =>
      takeOver(rt, this.#world.bootId, { silentSince: pulse.beatAt }),
    );
    this.#isBusy = false;
    if (ended.kind === 'failed') this.#world.violate('tick', undefined, `a take-over threw ${String(ended.error)}`);
  }
}
