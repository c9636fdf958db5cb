// What stands beside the database: kept inputs and results, whose token is whose, and what jobs said while they ran.

import type { Kept } from '../../../src/core/ports.ts';
import type { StreamBatch } from '../../../src/durable/job-stream.ts';
import type { TokenAnswer, TokenClaim, TokenMove, TokenMoved } from '../../../src/durable/replay-guard.ts';

const PAGE = 500;

export class Stores {
  readonly inputs = new Map<string, { readonly text: string; readonly keptAt: number }>();
  readonly results = new Map<string, { readonly text: string; readonly until: number }>();
  readonly #streams = new Map<string, { generation: number; seqs: Set<number> }>();
  readonly #tokens = new Map<string, { jobId: string; digest: string; claimedAt: number; expiresAt: number }>();

  /** As the replay guard answers. */
  claim(scope: string, { token, jobId, digest, ttlMs, now, extend }: TokenClaim): TokenAnswer {
    const key = `${scope}\n${token}`;
    const known = this.#tokens.get(key);
    if (known !== undefined && known.expiresAt > now) {
      if (extend === true) known.expiresAt = Math.max(known.expiresAt, now + ttlMs);
      const verdict = known.digest === digest ? 'duplicate' : 'conflict';
      return { verdict, jobId: known.jobId, claimedAt: known.claimedAt };
    }
    this.#tokens.set(key, { jobId, digest, claimedAt: now, expiresAt: now + ttlMs });
    return { verdict: 'fresh', jobId, claimedAt: now };
  }

  move(scope: string, { token, from, to, ttlMs, now }: TokenMove): TokenMoved {
    const key = `${scope}\n${token}`;
    const known = this.#tokens.get(key);
    if (known !== undefined && known.expiresAt > now && known.jobId !== from) {
      return { moved: known.jobId === to, jobId: known.jobId, claimedAt: known.claimedAt };
    }
    this.#tokens.set(key, { jobId: to, digest: known?.digest ?? '', claimedAt: now, expiresAt: now + ttlMs });
    return { moved: true, jobId: to, claimedAt: now };
  }

  /** As a job's stream answers. */
  append(jobId: string, { generation, events }: StreamBatch): 'kept' | 'stale' {
    const known = this.#streams.get(jobId);
    if (known !== undefined && known.generation > generation) return 'stale';
    const stream = known?.generation === generation ? known : { generation, seqs: new Set<number>() };
    for (const { seq } of events) stream.seqs.add(seq);
    this.#streams.set(jobId, stream);
    return 'kept';
  }

  listInputs(cursor: string | undefined): { kept: readonly Kept[]; next: string | undefined } {
    const keys = [...this.inputs.keys()].filter((key) => cursor === undefined || key > cursor).sort();
    const page = keys.slice(0, PAGE);
    const kept = page.map((key) => ({ key, keptAt: this.inputs.get(key)?.keptAt ?? 0 }));
    return { kept, next: keys.length > PAGE ? page.at(-1) : undefined };
  }
}
