// The providers there are: one file and one line each.

import { github } from './github.ts';
import type { Provider } from './provider.ts';

export const PROVIDERS: readonly Provider[] = [github];

export function findProvider(name: string): Provider | undefined {
  return PROVIDERS.find((provider) => provider.name === name);
}
