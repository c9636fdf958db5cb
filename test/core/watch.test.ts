import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/core/ports.ts';
import type { StreamEvent, StreamLook, StreamPage } from '../../src/durable/job-stream.ts';
import type { Runtime, Streams } from '../../src/jobs/runtime.ts';
import { watchJob, type Sighting } from '../../src/jobs/watch.ts';
import { readStanding } from '../../src/store/rows.ts';
import { JOB_ID, NOW } from './attempts.ts';
import { manualClock, type ManualClock } from './manual-clock.ts';

/** A job somebody watches: its row and its stream are in the test's hands. */
class Stage {
  readonly clock: ManualClock = manualClock(NOW);
  state = 'STARTED';
  attempt = 1;
  generation = 1;
  /** Looks at the row. */
  looks = 0;
  database: 'there' | 'silent' | 'without the row' = 'there';
  stream: 'there' | 'silent' = 'there';
  /** How long a look that had to wait takes to be answered. */
  slowMs = 0;
  events: StreamEvent[] = [];
  #arrival = Promise.withResolvers<undefined>();

  get rt(): Runtime {
    const streams: Partial<Streams> = { read: (_id, look) => this.#read(look) };
    const db: Partial<Runtime['db']> = {
      run: () => {
        this.looks += 1;
        if (this.database === 'silent') return Promise.reject(new Error('Network connection lost.'));
        return Promise.resolve({ rows: this.database === 'there' ? [this.#row()] : [], changes: 0 });
      },
    };
    const ports: Partial<Runtime> = { clock: this.clock, streams: streams as Streams, db: db as Runtime['db'] };
    // Watching reaches for nothing else.
    return ports as Runtime;
  }

  say(...lines: readonly string[]): void {
    for (const line of lines) {
      this.events.push({ seq: this.events.length + 1, at: this.clock.now(), event: 'log', data: { line } });
    }
    this.#arrival.resolve(undefined);
    this.#arrival = Promise.withResolvers();
  }

  /** What is seen until `seconds` have passed, a quarter of a second at a time; `script` is what happens meanwhile. */
  async watch(seconds: number, script: Readonly<Record<number, () => void>> = {}): Promise<readonly string[]> {
    const over = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const sighting of watchJob(this.rt, readStanding(this.#row()), undefined, over.signal)) {
        seen.push(shown(sighting));
      }
      seen.push('end');
    })();
    for (let quarter = 0; quarter <= seconds * 4; quarter += 1) {
      await turns();
      script[quarter / 4]?.();
      await turns();
      this.clock.advance(250);
    }
    over.abort();
    for (let quarter = 0; quarter < 8; quarter += 1) {
      await turns();
      this.clock.advance(250);
    }
    await watching;
    return seen;
  }

  async #read({ after, waitMs, limit }: StreamLook): Promise<StreamPage> {
    if (this.stream === 'silent') throw new Error('The Durable Object was reset.');
    const from = after?.generation === this.generation ? after.seq : 0;
    const found = (): readonly StreamEvent[] => this.events.filter(({ seq }) => seq > from).slice(0, limit);
    if (found().length === 0 && waitMs > 0) {
      await Promise.race([this.#arrival.promise, this.clock.sleep(waitMs)]);
      if (this.slowMs > 0) await this.clock.sleep(this.slowMs);
    }
    return { generation: this.generation, events: found() };
  }

  #row(): Row {
    const { state, attempt } = this;
    const none = { sent_at: null, waiting_for: null, error: null, clears_at: null, cleared_at: null };
    return { id: JOB_ID, state, attempt, queue: 'default', due_at: NOW, ...none };
  }
}

function shown(sighting: Sighting): string {
  switch (sighting.kind) {
    case 'nothing':
      return '…';
    case 'standing':
      return String(sighting.standing['state']);
    case 'event':
      return sighting.event.event === 'log' ? sighting.event.data.line : sighting.event.event;
  }
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 60; turn += 1) await Promise.resolve();
}

describe('whoever watches a job', () => {
  it('sees what it said, where it stands, then each word once and as it is said, and its end last', async () => {
    const stage = new Stage();
    stage.say('before');
    const seen = await stage.watch(60, {
      0.5: () => {
        stage.say('one');
      },
      12.25: () => {
        stage.say('two', 'three');
      },
      30.25: () => {
        stage.say('last');
        stage.state = 'SUCCESS';
      },
    });
    expect(seen).toEqual(['before', 'STARTED', 'one', 'two', 'three', '…', 'last', 'SUCCESS', 'end']);
  });

  it('of one that has ended sees all it said, then its end', async () => {
    const stage = new Stage();
    stage.say(...Array.from({ length: 1_200 }, (_, at) => String(at)));
    stage.state = 'FAILURE';
    const seen = await stage.watch(5);
    expect(seen).toEqual([...Array.from({ length: 1_200 }, (_, at) => String(at)), 'FAILURE', 'end']);
    expect(stage.looks).toBe(0);
  });

  it('sees every state it goes through, after the words before it', async () => {
    const stage = new Stage();
    stage.state = 'PENDING';
    const seen = await stage.watch(20, {
      2.5: () => {
        stage.state = 'STARTED';
      },
      4.5: () => {
        stage.say('of the first attempt');
        stage.state = 'RETRY';
      },
      7.5: () => {
        Object.assign(stage, { state: 'STARTED', attempt: 2, generation: 2, events: [] });
        stage.say('of the second');
      },
      9.5: () => {
        stage.state = 'REVOKED';
      },
    });
    const states = [
      'PENDING',
      'STARTED',
      'of the first attempt',
      'RETRY',
      'of the second',
      'STARTED',
      'REVOKED',
      'end',
    ];
    expect(seen).toEqual(states);
  });

  it('hears nothing twice that came with the end itself', async () => {
    const stage = new Stage();
    const seen = await stage.watch(20, {
      // Its stream answers late: first whoever asked last.
      3.5: () => {
        stage.slowMs = 1_500;
        stage.say('late');
        stage.state = 'RETRY';
      },
      8.5: () => {
        stage.slowMs = 0;
        stage.state = 'FAILURE';
      },
    });
    expect(seen).toEqual(['STARTED', 'late', 'RETRY', 'FAILURE', 'end']);
  });

  it('is told every 15 s that nothing happens, and after ten minutes to come back', async () => {
    const seen = await new Stage().watch(700);
    expect(seen.filter((each) => each !== '…')).toEqual(['STARTED', 'end']);
    expect(seen.length).toBeGreaterThanOrEqual(2 + 36);
    expect(seen.length).toBeLessThanOrEqual(2 + 40);
    expect(seen.at(-1)).toBe('end');
  });

  it('looks at its row once a second, and no more once nobody watches', async () => {
    const stage = new Stage();
    await stage.watch(30);
    expect(stage.looks).toBeGreaterThanOrEqual(25);
    expect(stage.looks).toBeLessThanOrEqual(31);
  });

  it('goes on when the database or the stream are silent for a while, and misses nothing', async () => {
    const stage = new Stage();
    const seen = await stage.watch(14, {
      1.5: () => {
        stage.database = 'silent';
        stage.stream = 'silent';
        stage.say('unheard');
      },
      6.5: () => {
        stage.stream = 'there';
      },
      9.5: () => {
        stage.database = 'there';
        stage.state = 'SUCCESS';
      },
    });
    expect(seen).toEqual(['STARTED', 'unheard', 'SUCCESS', 'end']);
  });

  it('learns its end although its stream stays silent', async () => {
    const stage = new Stage();
    stage.stream = 'silent';
    stage.state = 'SUCCESS';
    expect(await stage.watch(5)).toEqual(['SUCCESS', 'end']);
  });

  it('is left alone once its row is gone', async () => {
    const stage = new Stage();
    const seen = await stage.watch(5, {
      1.5: () => {
        stage.database = 'without the row';
      },
    });
    expect(seen).toEqual(['STARTED', 'end']);
  });
});
