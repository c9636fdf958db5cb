// One seed: machines, broker, database and clients in virtual time, first with faults, then without.

import type { Answer, Database, Statement } from '../../../src/core/ports.ts';
import type { Env } from '../../../src/env.ts';
import type { Registry } from '../../../src/jobs/registry.ts';
import type { Runtime } from '../../../src/jobs/runtime.ts';
import type { Job } from '../../../src/jobs/task.ts';
import { Agenda } from './agenda.ts';
import { Broker } from './broker.ts';
import { startClients } from './clients.ts';
import { untilConverged } from './convergence.ts';
import { Faults } from './faults.ts';
import { Ledger } from './ledger.ts';
import type { Run } from './leases.ts';
import { Limits } from './limits.ts';
import { Invocation, Machines, type SimIsolate } from './machines.ts';
import { judge } from './oracles.ts';
import { deliver, startPlatform } from './platform.ts';
import { portsOf } from './ports.ts';
import { Prng } from './prng.ts';
import type { Change, Sqlite } from './sqlite.ts';
import { Stores } from './stores.ts';
import { LIMITED_RATE, lockNameOf, registryOf } from './tasks.ts';
import { Timeline } from './timeline.ts';
import { clock, Trace } from './trace.ts';
import { startSchedulers } from './schedulers.ts';
import { drawTimetables, FIRST_TIMETABLE, type Timetable } from './timetables.ts';
import type { Invariant, Violate, Violation } from './violation.ts';
import { Watchdog } from './watchdog.ts';
import { drawPlans, type Plan } from './workload.ts';

const START = Date.UTC(2040, 0, 2, 12);
export type Ended<T> =
  | { readonly kind: 'answered'; readonly value: T }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'died' };

export class World {
  readonly start = START;
  /** The cron trigger stops for good as soon as the watchdog has heard of it. */
  readonly cronStops: boolean;
  readonly timeline = new Timeline(START);
  readonly random: Prng;
  readonly faults: Faults;
  readonly plans: readonly Plan[];
  readonly timetables: readonly Timetable[];
  readonly ledger: Ledger;
  readonly agenda: Agenda;
  readonly stores = new Stores();
  readonly limits = new Limits(this);
  readonly watchdog = new Watchdog(this);
  readonly broker: Broker;
  readonly machines: Machines;
  readonly acceptedIds = new Set<string>();
  readonly trace: Trace;
  violation: Violation | undefined;
  /** Isolates that killers have ended. */
  killed = 0;
  /** What clients are at. */
  busy = 0;
  /** When everything was final, in ms after the last fault. */
  convergedAfter = 0;
  readonly #idsOfPlans = new Map<number, string>();
  readonly #sqlite: Sqlite;
  readonly #registry: Registry;
  readonly #callers = new WeakMap<Database, Invocation>();
  readonly #hooks = new Map<string, number>();
  readonly #slowMs: number;
  /** Chance of what schedules bring with them. */
  readonly #apart: Prng;
  #invocations = 0;
  #boot = 1;

  constructor(seed: number, sqlite: Sqlite, tracing: boolean) {
    this.#sqlite = sqlite;
    this.cronStops = seed % 8 === 0;
    sqlite.reset();
    const random = new Prng(seed);
    this.trace = new Trace(tracing, START);
    this.faults = new Faults(random.fork(), START);
    const { weather } = this.faults;
    this.plans = drawPlans(random.fork(), weather, (this.faults.until - START) * 0.9);
    this.random = random.fork();
    this.#apart = new Prng(seed ^ 0x7ab1e);
    this.timetables = drawTimetables(seed, START, this.faults.until - START);
    const violate: Violate = (invariant, job, text) => {
      this.violate(invariant, job, text);
    };
    this.ledger = new Ledger(violate);
    this.agenda = new Agenda(violate);
    this.#slowMs = weather === 'swarm' ? 1_500 : 400;
    this.#registry = registryOf(this);
    const local = weather === 'local';
    this.machines = new Machines(local ? 1 : this.random.between(2, 4), this.random, this.timeline, () => {
      if (local) this.#restart();
    });
    this.broker = new Broker(this.timeline, this.random, this.faults, {
      deliver: (queue, messages) => deliver(this, queue, messages),
      mayLose: (job) => job === undefined || this.ledger.row(job) !== undefined,
      concurrency: local ? 1 : this.random.between(1, 5),
      gatherMs: this.random.between(0, 2_000),
      acksAtOnce: this.random.chance(0.3),
    });
  }

  async run(): Promise<void> {
    startClients(this);
    startSchedulers(this, this.#apart.fork());
    startPlatform(this);
    this.timeline.at(this.faults.until, () => {
      this.faults.end();
      this.note(
        () => [],
        () => 'from now on nothing goes wrong',
      );
    });
    const isOver = untilConverged(this);
    await this.timeline.run(() => this.violation !== undefined || isOver());
    if (this.violation === undefined) judge(this);
  }

  /** What a local runner would have in its environment. */
  get bootId(): string | undefined {
    return this.faults.weather === 'local' ? `boot-${String(this.#boot)}` : undefined;
  }

  get openAlerts(): number {
    return this.#sqlite.openAlerts;
  }

  /** What becomes of a tick beside what else goes wrong, where there are schedules. */
  fateOfTick(): 'comes' | 'missing' | 'doubled' {
    if (!this.faults.on || this.timetables.length === 0 || this.faults.weather === 'calm') return 'comes';
    const drawn = this.#apart.fraction();
    return drawn < 0.2 ? 'missing' : drawn < 0.3 ? 'doubled' : 'comes';
  }

  note(jobs: () => readonly string[], text: () => string): void {
    if (this.trace.on) this.trace.note(this.timeline.now, jobs(), text);
  }

  /** Only the first counts: what follows may follow from it. */
  violate(invariant: Invariant, job: string | undefined, text: string): void {
    this.violation ??= { invariant, job, text, at: this.timeline.now - START };
  }

  latency(): number {
    return this.random.chance(0.05) ? this.random.between(100, this.#slowMs) : this.random.between(1, 25);
  }

  planOf(n: number): Plan {
    const plan = this.plans[n] ?? this.timetables[n - FIRST_TIMETABLE]?.plan;
    if (plan === undefined) throw new Error(`There is no plan ${String(n)}.`);
    return plan;
  }

  /** Something outside of every isolate, which the seed waits for. */
  after(milliseconds: number, run: () => Promise<void> | void): void {
    this.busy += 1;
    this.timeline.after(milliseconds, () => {
      void Promise.resolve(run()).finally(() => {
        this.busy -= 1;
      });
    });
  }

  /** Calls the product in an isolate; says how that ended, and that the isolate died if it did before. */
  invoke<T>(name: string, isolate: SimIsolate, run: (rt: Runtime) => Promise<T>): Promise<Ended<T>> {
    this.#invocations += 1;
    const { promise, resolve } = Promise.withResolvers<Ended<T>>();
    const die = (): void => {
      resolve({ kind: 'died' });
    };
    const caller = new Invocation(`${name}-${String(this.#invocations)}`, isolate, die);
    const rt = this.#runtimeOf(caller);
    const forget = isolate.onDeath(die);
    const end = (ended: Ended<T>): void => {
      forget();
      resolve(ended);
    };
    caller.after(this.random.between(0, 20), () => {
      run(rt).then(
        (value) => {
          end({ kind: 'answered', value });
        },
        (error: unknown) => {
          end({ kind: 'failed', error });
        },
      );
    });
    return promise;
  }

  #runtimeOf(caller: Invocation): Runtime {
    const ports = portsOf(this, caller);
    this.#callers.set(ports.db, caller);
    const { memory } = caller.isolate;
    return {
      ...ports,
      registry: this.#registry,
      schedules: [],
      isolate: memory,
      env: {} as Env,
      waitUntil: () => undefined,
    };
  }

  commit(statements: readonly Statement[], caller: Invocation): readonly Answer[] {
    const { answers, changes } = this.#sqlite.commit(statements);
    const names = statements.map(({ name }) => name);
    this.ledger.apply(changes, names, caller, this.timeline.now);
    if (this.timetables.length > 0) this.agenda.apply(changes, this.timeline.now);
    for (const change of changes) this.#noteRow(change);
    return answers;
  }

  #noteRow(change: Change): void {
    if (change.kind.startsWith('schedule') || change.kind.startsWith('firing')) {
      this.note(
        () => [],
        () => `  ${change.kind}: ${JSON.stringify('row' in change ? change.row : change)}`,
      );
    }
    if (change.kind !== 'job-changed' && change.kind !== 'job-made') return;
    const { id, state, attempt, claim, lost, sent_at } = change.row;
    const sent = sent_at === null ? 'owed' : clock(sent_at - START);
    this.note(
      () => [id],
      () => `  row: ${state} attempt ${String(attempt)} claim ${String(claim)} lost ${String(lost)} sent ${sent}`,
    );
  }

  accepted(plan: Plan, id: string): void {
    this.acceptedIds.add(id);
    const first = this.#idsOfPlans.get(plan.n);
    if (first !== undefined && first !== id) {
      this.violate('idempotency', id, `key-${String(plan.n)} was answered with ${first} before`);
    }
    this.#idsOfPlans.set(plan.n, id);
    this.note(
      () => [id],
      () => `job ${String(plan.n)} is accepted: ${JSON.stringify(plan).slice(0, 400)}`,
    );
  }

  startRun(job: Job): Run {
    const caller = this.#callers.get(job.db);
    if (caller === undefined) throw new Error('A handler has a caller.');
    const { now } = this.timeline;
    const run = this.ledger.leases.start(this.ledger.row(job.id), job.id, job.attempt, caller, now);
    const known = this.ledger.jobs.get(job.id);
    const key = known === undefined ? undefined : this.planOf(known.n).lockKey;
    if (key !== undefined) this.limits.started(job.id, [LIMITED_RATE], [lockNameOf(key)]);
    this.note(
      () => [job.id],
      () =>
        `${caller.isolate.name} ${caller.name} starts run ${String(run.id)}: attempt ${String(job.attempt)}, claim ${String(run.claim)}`,
    );
    return run;
  }

  hookCalled(job: Job, state: 'SUCCESS' | 'RETRY' | 'FAILURE'): Plan {
    const known = this.ledger.jobs.get(job.id);
    if (known === undefined) throw new Error('A hook has a job.');
    if (state !== 'RETRY') {
      const calls = (this.#hooks.get(job.id) ?? 0) + 1;
      this.#hooks.set(job.id, calls);
      if (calls > 1) this.violate('hooks', job.id, 'its end was told twice');
      if (known.row.state !== state) this.violate('hooks', job.id, `it was told ${state} and is ${known.row.state}`);
    }
    return this.planOf(known.n);
  }

  // A hot reload keeps the id of the boot.
  #restart(): void {
    this.broker.empty();
    if (this.random.chance(0.7)) this.#boot += 1;
    this.note(
      () => [],
      () => 'the machine dies, and its queues with it',
    );
  }
}
