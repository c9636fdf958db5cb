// Which job a token belongs to: the single writer of its own tokens. It must never answer before they are stored.

import { DurableObject } from 'cloudflare:workers';
import { z } from 'zod';

export interface TokenClaim {
  /** What makes a request the same request: an Idempotency-Key, a delivery id, a digest of a body. */
  readonly token: string;
  /** The job it shall name if it names none yet. */
  readonly jobId: string;
  /** Digest of what came with the token; another one under the same token is a conflict. */
  readonly digest: string;
  readonly ttlMs: number;
  /** Epoch ms. */
  readonly now: number;
}

export interface TokenAnswer {
  readonly verdict: 'fresh' | 'duplicate' | 'conflict';
  /** *The* job of this token, whoever claimed it first. */
  readonly jobId: string;
  readonly claimedAt: number;
}

/** A token that somebody has claimed. */
export interface KnownToken {
  readonly token: string;
  readonly jobId: string;
  /** Epoch ms. */
  readonly claimedAt: number;
}

const stored = z.object({ job_id: z.string(), digest: z.string(), claimed_at: z.number(), expires_at: z.number() });
const known = z.object({ token: z.string(), job_id: z.string(), claimed_at: z.number() });

export class ReplayGuard extends DurableObject {
  constructor(state: DurableObjectState, env: Cloudflare.Env) {
    super(state, env);
    state.storage.sql.exec(
      `CREATE TABLE IF NOT EXISTS tokens (
         token TEXT PRIMARY KEY, job_id TEXT NOT NULL, digest TEXT NOT NULL,
         claimed_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
       ) WITHOUT ROWID`,
    );
  }

  /** Claims a token for a job, or says whose it is. Claiming again is safe: the answer names the same job. */
  async claim({ token, jobId, digest, ttlMs, now }: TokenClaim): Promise<TokenAnswer> {
    const first = this.#find(token);
    if (first !== undefined && first.expires_at > now) {
      return {
        verdict: first.digest === digest ? 'duplicate' : 'conflict',
        jobId: first.job_id,
        claimedAt: first.claimed_at,
      };
    }
    this.ctx.storage.sql.exec(
      `INSERT OR REPLACE INTO tokens (token, job_id, digest, claimed_at, expires_at) VALUES (?, ?, ?, ?, ?)`,
      token,
      jobId,
      digest,
      now,
      now + ttlMs,
    );
    await this.#forgetAt(now + ttlMs);
    return { verdict: 'fresh', jobId, claimedAt: now };
  }

  /** Those of the tokens that are claimed, each with its job. Writes nothing. */
  find(tokens: readonly string[], now: number): readonly KnownToken[] {
    const rows = this.ctx.storage.sql.exec(
      `SELECT token, job_id, claimed_at FROM tokens
       WHERE token IN (SELECT value FROM json_each(?)) AND expires_at > ?`,
      JSON.stringify(tokens),
      now,
    );
    return [...rows].map((row) => {
      const { token, job_id: jobId, claimed_at: claimedAt } = known.parse(row);
      return { token, jobId, claimedAt };
    });
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    this.ctx.storage.sql.exec(`DELETE FROM tokens WHERE expires_at <= ?`, now);
    const [next] = this.ctx.storage.sql.exec(`SELECT min(expires_at) AS at FROM tokens`);
    if (typeof next?.['at'] === 'number') await this.#forgetAt(next['at']);
  }

  #find(token: string): z.infer<typeof stored> | undefined {
    const [row] = this.ctx.storage.sql.exec(
      `SELECT job_id, digest, claimed_at, expires_at FROM tokens WHERE token = ?`,
      token,
    );
    return row === undefined ? undefined : stored.parse(row);
  }

  // Rounded up to the hour, so that a busy guard sets its alarm once an hour and not once a claim.
  async #forgetAt(expiresAt: number): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) !== null) return;
    await this.ctx.storage.setAlarm(Math.ceil(expiresAt / 3_600_000) * 3_600_000);
  }
}
