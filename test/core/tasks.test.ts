import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { MAX_RETRIES, MAX_TIME_LIMIT_SECONDS } from '../../src/core/limits.ts';
import { retryDelayMs } from '../../src/core/retry.ts';
import { createRegistry } from '../../src/jobs/registry.ts';
import { defineTask, type Task, type TaskDefinition } from '../../src/jobs/task.ts';
import { QUEUE_NAMES } from '../../src/queues.ts';
import { debugTasks, tasks } from '../../src/tasks/index.ts';

const all: readonly Task[] = [...tasks, ...debugTasks];

function define(rest: Partial<TaskDefinition<z.ZodUnknown, null>> = {}): Task {
  return defineTask({ name: 'some_task', queue: 'default', input: z.unknown(), run: () => null, ...rest });
}

/** A long task in the queue of short work that does not say why it is there. */
function outstays({ queue, timeLimit, longOnDefault = '' }: Task): boolean {
  return queue === 'default' && timeLimit.hardSeconds > 60 && longOnDefault.trim().length < 10;
}

describe('the list of tasks', () => {
  it('is not empty, and answers to every name and alias with the task that claims it', () => {
    const registry = createRegistry(all);
    expect(registry.tasks).toEqual(all);
    for (const task of all) {
      for (const name of [task.name, ...task.aliases]) expect(registry.find(name)).toBe(task);
    }
    expect(registry.find('debug_task')?.aliases).toContain('app.tasks.debug_task');
  });

  it('has no debug task among those of production but debug_task', () => {
    expect(tasks.map(({ name }) => name).filter((name) => name.startsWith('debug.'))).toEqual([]);
    expect(debugTasks.every(({ name }) => name.startsWith('debug.'))).toBe(true);
  });

  it.each(all)('$name: its queue exists', ({ queue }) => {
    expect(QUEUE_NAMES).toContain(queue);
  });

  it.each(all)('$name: is short, or stands in another queue than `default`, or says why not', (task) => {
    expect(outstays(task)).toBe(false);
  });

  it.each(all)('$name: its limits fit a batch, the soft one before the hard one', ({ timeLimit }) => {
    expect(timeLimit.softSeconds).toBeGreaterThan(0);
    expect(timeLimit.softSeconds).toBeLessThanOrEqual(timeLimit.hardSeconds);
    expect(timeLimit.hardSeconds).toBeLessThanOrEqual(MAX_TIME_LIMIT_SECONDS);
  });

  it.each(all)(
    '$name: may be retried as often as a call may ask for, and waits a sane time before each',
    ({ retry }) => {
      expect(retry.max).toBeGreaterThanOrEqual(0);
      expect(retry.max).toBeLessThanOrEqual(MAX_RETRIES);
      for (let each = 1; each <= retry.max; each += 1) {
        const wait = retryDelayMs(retry.delays, each, 0.5);
        expect(Number.isInteger(wait) && wait > 0).toBe(true);
      }
    },
  );

  it.each(all)('$name: its positional arguments are members of its input', ({ params, input }) => {
    expect(new Set(params).size).toBe(params.length);
    expect(params.slice(0, -1).filter((name) => name.startsWith('...'))).toEqual([]);
    if (!(input instanceof z.ZodObject)) return;
    const members = Object.keys(input.shape);
    expect(params.map((name) => name.replace(/^\.\.\./, '')).filter((name) => !members.includes(name))).toEqual([]);
  });

  it.each(all)('$name: its input can be shown as JSON Schema', ({ input }) => {
    expect(() => z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' })).not.toThrow();
  });
});

describe('the queue of short work', () => {
  const long = { softSeconds: 60, hardSeconds: 61 };

  it('refuses a task of more than 60 s that does not say why', () => {
    expect(outstays(define({ timeLimit: long }))).toBe(true);
    expect(outstays(define({ timeLimit: long, longOnDefault: '' }))).toBe(true);
  });

  it('takes one that says why, one of 60 s, and leaves other queues alone', () => {
    expect(outstays(define({ timeLimit: long, longOnDefault: 'it is what it is there for' }))).toBe(false);
    expect(outstays(define({ timeLimit: { hardSeconds: 60 } }))).toBe(false);
    expect(outstays(define({ timeLimit: long, queue: 'pipeline' }))).toBe(false);
  });
});

describe('defining a task', () => {
  it('fills in what is left out: 3 retries from 60 s to 600 s, soft 50 s, hard 60 s, results for an hour', () => {
    expect(define()).toMatchObject({
      aliases: [],
      params: [],
      retry: { max: 3, delays: { kind: 'exponential', baseSeconds: 60, capSeconds: 600, jitter: 'equal' } },
      timeLimit: { softSeconds: 50, hardSeconds: 60 },
      resultTtlSeconds: 3_600,
    });
  });

  it('fits the limit that is left out to the one that is given', () => {
    expect(define({ timeLimit: { hardSeconds: 30 } }).timeLimit).toEqual({ softSeconds: 30, hardSeconds: 30 });
    expect(define({ timeLimit: { softSeconds: 300 } }).timeLimit).toEqual({ softSeconds: 300, hardSeconds: 300 });
  });

  it.each([
    { softSeconds: 61, hardSeconds: 60 },
    { softSeconds: 0, hardSeconds: 60 },
    { softSeconds: -1 },
    { hardSeconds: 841 },
    { hardSeconds: 0 },
  ])('refuses the limits %j', (timeLimit) => {
    expect(() => define({ timeLimit })).toThrow(/some_task: time limits/);
  });

  it.each(['', 'Send', '1st', 'send email', 'send-email', 'é', `a${'b'.repeat(100)}`, 'a\n'])(
    'refuses the name %j',
    (name) => {
      expect(() => define({ name })).toThrow(/Task name/);
    },
  );

  it('refuses two tasks that answer to one name, whoever calls it an alias', () => {
    expect(() => createRegistry([define({ name: 'a' }), define({ name: 'a' })])).toThrow(/both answer to a/);
    expect(() => createRegistry([define({ name: 'a' }), define({ name: 'b', aliases: ['a'] })])).toThrow(/answer to a/);
    expect(() =>
      createRegistry([define({ name: 'a', aliases: ['x'] }), define({ name: 'b', aliases: ['x'] })]),
    ).toThrow(/The tasks a and b both answer to x/);
  });
});
