import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FINAL_SQL,
  guard,
  isFinal,
  shownState,
  STATES,
  STATUS,
  target,
  transition,
  TRANSITIONS,
  type State,
  type Transition,
} from '../../src/core/states.ts';

const EVENTS = Object.keys(TRANSITIONS) as Transition[];

// Written out again, so that a slip in the table cannot agree with itself.
const ALLOWED: Readonly<Record<State, Readonly<Partial<Record<Transition, State>>>>> = {
  PENDING: { wait: 'PENDING', claim: 'STARTED', revoke: 'REVOKED', expire: 'REVOKED', revise: 'PENDING' },
  SCHEDULED: { wait: 'PENDING', claim: 'STARTED', revoke: 'REVOKED', expire: 'REVOKED', revise: 'PENDING' },
  STARTED: {
    succeed: 'SUCCESS',
    fail: 'FAILURE',
    retry: 'RETRY',
    defer: 'PENDING',
    lose: 'PENDING',
    stop: 'REVOKED',
  },
  RETRY: { claim: 'STARTED', revoke: 'REVOKED' },
  SUCCESS: {},
  FAILURE: {},
  REVOKED: {},
};

const anyState = fc.constantFrom(...STATES);
const anyEvent = fc.constantFrom(...EVENTS);
const FINAL_STATES: readonly State[] = ['SUCCESS', 'FAILURE', 'REVOKED'];

describe('the state table', () => {
  it.each(STATES.flatMap((state) => EVENTS.map((event) => ({ state, event, to: ALLOWED[state][event] }))))(
    'in $state, $event leads to $to',
    ({ state, event, to }) => {
      expect(transition(state, event)).toBe(to);
    },
  );

  it('knows exactly three final states', () => {
    expect(STATES.filter(isFinal)).toEqual(FINAL_STATES);
  });

  it('lets a final state never change, whatever arrives', () => {
    fc.assert(
      fc.property(anyState, fc.array(anyEvent, { minLength: 1, maxLength: 30 }), (start, events) => {
        let state = start;
        for (const event of events) {
          const next = transition(state, event);
          if (isFinal(state)) expect(next).toBeUndefined();
          state = next ?? state;
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('leaves a way on from every state that is not final', () => {
    for (const state of STATES.filter((each) => !isFinal(each))) {
      expect(EVENTS.filter((event) => transition(state, event) !== undefined)).not.toEqual([]);
    }
  });

  it('reaches every state from one that acceptance makes', () => {
    const reached = new Set<State>(['PENDING', 'SCHEDULED']);
    for (const state of reached) {
      for (const event of EVENTS) {
        const next = transition(state, event);
        if (next !== undefined) reached.add(next);
      }
    }
    expect([...reached].sort()).toEqual([...STATES].sort());
  });

  it('never returns a job to SCHEDULED: only acceptance makes one', () => {
    expect(EVENTS.map((event) => TRANSITIONS[event].to)).not.toContain('SCHEDULED');
  });

  it('shows a different word to people for each state', () => {
    expect(STATUS).toEqual({
      PENDING: 'queued',
      SCHEDULED: 'scheduled',
      STARTED: 'running',
      RETRY: 'retrying',
      SUCCESS: 'completed',
      FAILURE: 'failed',
      REVOKED: 'cancelled',
    });
  });
});

describe('the SQL guards', () => {
  // A database decides, not a reading of the text: a guard that is well spelled and wrong shows here.
  function statesWhere(condition: string): State[] {
    const db = new DatabaseSync(':memory:');
    db.exec('CREATE TABLE jobs (state TEXT NOT NULL)');
    const insert = db.prepare('INSERT INTO jobs VALUES (?)');
    for (const state of STATES) insert.run(state);
    const rows = db.prepare(`SELECT state FROM jobs WHERE ${condition}`).all();
    db.close();
    return STATES.filter((state) => rows.some((row) => row['state'] === state));
  }

  it.each(EVENTS)('let %s start from exactly the states that `transition` lets it start from', (event) => {
    expect(statesWhere(guard(event))).toEqual(STATES.filter((state) => transition(state, event) !== undefined));
  });

  it.each(EVENTS)('write the state that `transition` says %s leads to', (event) => {
    expect(statesWhere(`state = ${target(event)}`)).toEqual([TRANSITIONS[event].to]);
  });

  it('call the same states final as `isFinal` does', () => {
    expect(statesWhere(`state IN ${FINAL_SQL}`)).toEqual(STATES.filter(isFinal));
  });

  it('never match a final state', () => {
    for (const event of EVENTS) expect(statesWhere(guard(event)).filter(isFinal)).toEqual([]);
  });
});

describe('the state a reader is shown', () => {
  it('is PENDING for a scheduled job from the millisecond it is due, SCHEDULED before', () => {
    expect(shownState('SCHEDULED', 1_000, 999)).toBe('SCHEDULED');
    expect(shownState('SCHEDULED', 1_000, 1_000)).toBe('PENDING');
    expect(shownState('SCHEDULED', 1_000, 1_001)).toBe('PENDING');
  });

  it('is the stored one for every other state, whenever it is due', () => {
    fc.assert(
      fc.property(anyState, fc.nat(), fc.nat(), (state, dueAt, now) => {
        fc.pre(state !== 'SCHEDULED');
        expect(shownState(state, dueAt, now)).toBe(state);
      }),
    );
  });
});
