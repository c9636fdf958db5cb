// A new run of an old job, from its row or its dead letter: checked as any call is, with objects of its own.

import type { Envelope, JobOptions } from '../core/envelope.ts';
import { newId } from '../core/ids.ts';
import type { Json } from '../core/json.ts';
import { withOwnCallback } from './callbacks.ts';
import { withKeys } from './limits.ts';
import { logError } from './log.ts';
import { setInputAside, type Fetched } from './payloads.ts';
import { checkRequest, type Fault } from './request.ts';
import type { Runtime } from './runtime.ts';
import type { InputCopy, Task } from './task.ts';

/** What a new run takes over from an old one. */
export type Recipe = Pick<Envelope, 'task' | 'queue' | 'options' | 'priority' | 'tags'> & {
  readonly input: Fetched<Json>;
};

/** `gone`: nobody has its input any more. `silent`: a store does not answer, ask again. */
export type NoCopy =
  | { readonly kind: 'refused'; readonly faults: readonly Fault[] }
  | { readonly kind: 'gone' }
  | { readonly kind: 'silent' };

/** An envelope due now that can be committed. What its task no longer takes is said. */
export async function copyOf(
  rt: Runtime,
  { input, ...recipe }: Recipe,
  origin: { readonly source: string; readonly retryOf: string | null },
): Promise<{ readonly kind: 'copy'; readonly envelope: Envelope } | NoCopy> {
  if (input.kind !== 'value') return input;
  const task = rt.registry.find(recipe.task);
  if (task === undefined) {
    return { kind: 'refused', faults: [{ path: 'task', message: `there is no task "${recipe.task}" any more` }] };
  }
  const checked = checkRequest({ task, input: input.value, options: {} });
  if (!checked.ok) return { kind: 'refused', faults: checked.faults };
  const now = rt.clock.now();
  const id = newId(now, rt.random.bytes(9));
  const times = { acceptedAt: now, dueAt: now, expiresAt: null };
  try {
    const own = await ownInput(task, input.value, { id, env: rt.env, now });
    if (own === undefined) return { kind: 'gone' };
    // Asked for by hand, it is nobody's duplicate.
    const { unclaimed: _, ...kept } = recipe.options;
    const options = withKeys(withOwnCallback(asRunByHand(kept), id), checked.value, recipe.queue);
    const named = { id, task: task.name, options, parentId: null };
    const envelope = { v: 1 as const, ...recipe, ...times, ...origin, ...named, input: own };
    return { kind: 'copy', envelope: await setInputAside(rt, envelope, 'new') };
  } catch (error) {
    logError('copy.input_not_kept', error, { task: task.name });
    return { kind: 'silent' };
  }
}

// Of a run of a schedule: of the same time, and it waits for no other run.
function asRunByHand({ schedule, ...options }: JobOptions): JobOptions {
  return schedule === undefined ? options : { ...options, schedule: { ...schedule, cause: 'run', overlap: 'allow' } };
}

async function ownInput(task: Task, input: Json, copy: InputCopy): Promise<Json | undefined> {
  return task.copyInput === undefined ? input : task.copyInput(task.input.parse(input), copy);
}
