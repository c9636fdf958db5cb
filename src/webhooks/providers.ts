// The providers there are: one file and one line each.

import { github } from './github.ts';
import { mailgun } from './mailgun.ts';
import { openphone } from './openphone.ts';
import type { Provider } from './provider.ts';
import { slack } from './slack.ts';

export const PROVIDERS: readonly Provider[] = [github, mailgun, openphone, slack];

export function findProvider(name: string): Provider | undefined {
  return PROVIDERS.find((provider) => provider.name === name);
}
