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
  /** A token that names a job already is kept until `now` + `ttlMs`, too. */
  readonly extend?: boolean;
}

export interface TokenAnswer {
  readonly verdict: 'fresh' | 'duplicate' | 'conflict';
  /** *The* job of this token, whoever claimed it first. */
  readonly jobId: string;
  readonly claimedAt: number;
}

/** A token is to name another job than the one it named when its caller looked. */
export interface TokenMove {
  readonly token: string;
  readonly from: string;
  readonly to: string;
  readonly ttlMs: number;
  /** Epoch ms. */
  readonly now: number;
}

/** Which job a token names after a move; `moved` is false where somebody else had moved it before. */
export interface TokenMoved {
  readonly moved: boolean;
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
  async claim({ token, jobId, digest, ttlMs, now, extend }: TokenClaim): Promise<TokenAnswer> {
    const first = this.#find(token);
    if (first !== undefined && first.expires_at > now) {
      if (extend === true) this.#keepUntil(token, now + ttlMs);
      return {
        verdict: first.digest === digest ? 'duplicate' : 'conflict',
        jobId: first.job_id,
        claimedAt: first.claimed_at,
      };
    }
    await this.#store(token, jobId, digest, now, ttlMs);
    return { verdict: 'fresh', jobId, claimedAt: now };
  }

  /** Lets a token name `to` if it still names `from`, or nothing any more. Moving again is safe: it is moved already. */
  async move({ token, from, to, ttlMs, now }: TokenMove): Promise<TokenMoved> {
    const first = this.#find(token);
    if (first !== undefined && first.expires_at > now && first.job_id !== from) {
      return { moved: first.job_id === to, jobId: first.job_id, claimedAt: first.claimed_at };
    }
    await this.#store(token, to, first?.digest ?? '', now, ttlMs);
    return { moved: true, jobId: to, claimedAt: now };
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

  async #store(token: string, jobId: string, digest: string, now: number, ttlMs: number): Promise<void> {
    this.ctx.storage.sql.exec(
      `INSERT OR REPLACE INTO tokens (token, job_id, digest, claimed_at, expires_at) VALUES (?, ?, ?, ?, ?)`,
      token,
      jobId,
      digest,
      now,
      now + ttlMs,
    );
    await this.#forgetAt(now + ttlMs);
  }

  #keepUntil(token: string, expiresAt: number): void {
    this.ctx.storage.sql.exec(
      `UPDATE tokens SET expires_at = ?2 WHERE token = ?1 AND expires_at < ?2`,
      token,
      expiresAt,
    );
  }

  // Rounded up to the hour, so that a busy guard sets its alarm once an hour and not once a claim.
  async #forgetAt(expiresAt: number): Promise<void> {
    const at = Math.ceil(expiresAt / 3_600_000) * 3_600_000;
    const set = await this.ctx.storage.getAlarm();
    // One token may live for years, and those beside it for a minute.
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }
}
