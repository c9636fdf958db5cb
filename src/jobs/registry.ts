// Which tasks there are, by name and by every alias.

import type { Task } from './task.ts';

export interface Registry {
  /** In the order they were listed. */
  readonly tasks: readonly Task[];
  /** The task a name or alias means. */
  find(name: string): Task | undefined;
  /** The tasks that are run on an event: named whole, by `prefix.*`, or by `*`. */
  handlersOf(event: string): readonly Task[];
}

/** Throws where two tasks claim one name. */
export function createRegistry(tasks: readonly Task[]): Registry {
  const byName = new Map<string, Task>();
  for (const task of tasks) {
    for (const name of [task.name, ...task.aliases]) {
      const other = byName.get(name);
      if (other !== undefined) throw new Error(`The tasks ${other.name} and ${task.name} both answer to ${name}.`);
      byName.set(name, task);
    }
  }
  return {
    tasks,
    find: (name) => byName.get(name),
    handlersOf: (event) => tasks.filter(({ on }) => on.some((pattern) => matches(pattern, event))),
  };
}

function matches(pattern: string, event: string): boolean {
  if (pattern === '*') return true;
  return pattern.endsWith('.*') ? event.startsWith(pattern.slice(0, -1)) : event === pattern;
}
