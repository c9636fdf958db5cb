// What is too large for a row: inputs in R2, results in KV. The only file that knows their keys and lives.

import type { Inputs, Results } from '../core/ports.ts';

/** Objects looked at in one page of {@link Inputs.list}. */
const LIST_PAGE = 500;

/** Where the input of a job is kept that is too large for its message. */
export function inputKey(jobId: string): string {
  return `inputs/${jobId}`;
}

/** Where an input is kept that takes the place of another: beside it, since nobody knows yet which of them counts. */
export function revisedInputKey(jobId: string, nonce: string): string {
  return `inputs/${jobId}.${nonce}`;
}

/** Where the raw body of a webhook is kept. */
export function rawKey(provider: string, jobId: string): string {
  return `webhooks/${provider}/${jobId}`;
}

/** Whether an object is the raw body of a webhook. */
export function isRaw(key: string): boolean {
  return key.startsWith('webhooks/');
}

const OURS = /^(?:inputs|webhooks\/[a-z]+)\/([^/.]+)(?:\.[^/]+)?$/;

/** The job an object is kept for; undefined where the key is none of ours, but a task's. */
export function jobOfKey(key: string): string | undefined {
  return OURS.exec(key)?.[1];
}

/** Where the result of one attempt is kept: a late attempt writes beside the one that counts, never over it. */
export function resultKey(jobId: string, claim: number): string {
  return `result/${jobId}/${String(claim)}`;
}

export function r2Inputs(bucket: R2Bucket): Inputs {
  return {
    async put(key, text, keptAt) {
      await bucket.put(key, text, metadata('application/json', keptAt));
    },
    async get(key) {
      return (await bucket.get(key))?.text();
    },
    async remove(keys) {
      await bucket.delete([...keys]);
    },
    async list(after) {
      const page = await bucket.list({
        limit: LIST_PAGE,
        include: ['customMetadata'],
        ...(after === undefined ? {} : { startAfter: after }),
      });
      const kept = page.objects.map(({ key, customMetadata, uploaded }) => ({
        key,
        keptAt: Number(customMetadata?.['kept_at'] ?? uploaded.getTime()),
      }));
      return { kept, next: page.truncated ? kept.at(-1)?.key : undefined };
    },
  };
}

/** What R2 remembers of an object: its type, and when it was put by the clock of whoever did. */
export function metadata(contentType: string, keptAt: number): R2PutOptions {
  return { httpMetadata: { contentType }, customMetadata: { kept_at: String(keptAt) } };
}

export function kvResults(namespace: KVNamespace): Results {
  return {
    async put(key, text, ttlSeconds) {
      await namespace.put(key, text, { expirationTtl: ttlSeconds });
    },
    async get(key) {
      return (await namespace.get(key)) ?? undefined;
    },
    async remove(key) {
      await namespace.delete(key);
    },
  };
}
