// One job in a world in virtual time, watched from outside while an isolate takes whatever the queues have.

import { env } from 'cloudflare:workers';
import type { Json } from '../../src/core/json.ts';
import type { Task } from '../../src/jobs/task.ts';
import type { JobRow } from '../../src/store/rows.ts';
import type { Bench } from './bench.ts';
import { askJson } from './client.ts';
import { World } from './world.ts';

const AN_HOUR_MS = 3_600_000;

export class Scene {
  readonly world = new World();
  readonly bench: Bench;
  /** The job that is watched. */
  id = '';

  constructor(tasks: readonly Task[]) {
    this.bench = this.world.isolate({ tasks });
  }

  /** Enqueues the job. */
  async enqueue(task: string, input: Json, options: Readonly<Record<string, Json>> = {}): Promise<void> {
    this.id = (await this.world.run(this.bench.enqueue({ task, input, options }))).id;
  }

  /** Takes messages from now on, for an hour. */
  consume(bench = this.bench): void {
    void this.world.keepDelivering(bench, this.world.clock.now() + AN_HOUR_MS, 1_000);
  }

  /** Enqueues the job and lets it run for ten seconds. */
  async begin(...call: Parameters<Scene['enqueue']>): Promise<void> {
    await this.enqueue(...call);
    this.consume();
    await this.world.pass(10_000);
  }

  /** One request to the API about the job. */
  ask(method: string, path = '', body?: Json): ReturnType<typeof askJson> {
    return this.world.run(askJson(this.bench.rt, method, `/api/v1/jobs/${this.id}${path}`, body));
  }

  job(): Promise<JobRow> {
    return this.world.run(this.bench.job(this.id));
  }

  /** Dead letters, of any job. */
  async letters(): Promise<number> {
    return Number((await env.DB.prepare(`SELECT count(*) AS n FROM dead_letters`).first())?.['n']);
  }
}
