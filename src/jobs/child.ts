// A job enqueues another one. Its id follows from its parent's, so that an attempt that is repeated makes no second.

import type { Envelope, Identity } from '../core/envelope.ts';
import { followUpId } from '../core/ids.ts';
import { commit, enqueueOnce, requestOf, submit, type Enqueued } from './enqueue.ts';
import { toEnvelope, type Request } from './request.ts';
import type { Runtime } from './runtime.ts';
import type { Job } from './task.ts';

/** A child that others may make as well: whoever claims these tokens first does. */
export interface Once {
  readonly identity: Identity;
  /** What its `source` says. */
  readonly source: string;
}

/** `job.enqueue` of one attempt. */
export function enqueueFrom(rt: Runtime, parent: Envelope, claim: number): Job['enqueue'] {
  const made = new Map<string, number>();
  return async (task, input, options, once) => {
    const request = requestOf(task, input, options);
    const index = made.get(task.name) ?? 0;
    made.set(task.name, index + 1);
    const enqueued =
      once === undefined
        ? await enqueueChild(rt, request, parent, claim, index)
        : await enqueueOnce(rt, request, once.identity, { source: once.source, parentId: parent.id });
    if (enqueued.kind === 'accepted') return { id: enqueued.id, created: !enqueued.replayed };
    throw new Error(`${task.name} could not be enqueued: ${enqueued.kind}.`);
  };
}

async function enqueueChild(
  rt: Runtime,
  request: Request,
  parent: Envelope,
  claim: number,
  index: number,
): Promise<Enqueued> {
  const from = { source: `task:${parent.task}`, parentId: parent.id };
  // Its key decides which job it is, not whose child it is.
  if (request.options.idempotency_key !== undefined || request.unique !== undefined)
    return submit(rt, request, { ...from, owner: 'code' });
  const id = followUpId(parent.id, `enqueue ${request.task.name}`, index);
  const envelope = toEnvelope(request, { ...from, id, now: rt.clock.now() });
  // Only an attempt before this one can have made it.
  return commit(rt, { envelope, mode: claim === 1 ? 'new' : 'again' });
}
