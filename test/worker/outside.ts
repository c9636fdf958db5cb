// The outside world of the worker tests: two hosts that live as long as the run. Started by vitest, in Node.

import type { TestProject } from 'vitest/node';
import { openOutside } from '../outside.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** `host` may be called, `canary` may not. */
    outside: { readonly host: string; readonly canary: string };
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [receiver, canary] = await Promise.all([openOutside(), openOutside()]);
  project.provide('outside', { host: receiver.host, canary: canary.host });
  return async () => {
    await Promise.all([receiver.close(), canary.close()]);
  };
}
