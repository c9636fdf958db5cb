// Settings that clients of outside services need, checked before anything is asked. A secret is never said.

import { ConfigurationError } from '../jobs/outcome.ts';

/** A setting that must be there. */
export function required(name: string, value: string | undefined): string {
  const text = value?.trim() ?? '';
  if (text === '') throw new ConfigurationError(`${name} is not set.`);
  return text;
}

/** A token or key as a header can carry it: what cannot would be quoted by the error about it. */
export function secret(name: string, value: string | undefined): string {
  const text = required(name, value);
  if (!/^[\x21-\x7e]+$/.test(text))
    throw new ConfigurationError(`${name} has characters in it that no header carries.`);
  return text;
}

/** The parts of a list with commas, each once. Throws where one is not of the form, and names it. */
export function listOf(name: string, value: string | undefined, form: RegExp, example: string): readonly string[] {
  const entries = required(name, value)
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  const bad = entries.find((entry) => !form.test(entry));
  if (bad !== undefined) {
    throw new ConfigurationError(`${name}: ${JSON.stringify(bad)} is not one; it should look like ${example}.`);
  }
  if (entries.length === 0) throw new ConfigurationError(`${name} is not set.`);
  return [...new Set(entries)];
}

/** Where a service is, its path ending in a slash. */
export function baseUrl(name: string, value: string | undefined, usual: string): URL {
  const text = value?.trim() ?? '';
  const url = URL.parse(text === '' ? usual : text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new ConfigurationError(`${name} is no http or https address without a user in it.`);
  }
  return new URL(`${url.pathname.replace(/\/+$/, '')}/`, url);
}
