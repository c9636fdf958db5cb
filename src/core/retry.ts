// Retry policies are values: how long to wait before the n-th retry.

export type RetryPolicy =
  | { readonly kind: 'delays'; readonly seconds: readonly number[] }
  | {
      readonly kind: 'exponential';
      readonly baseSeconds: number;
      readonly factor: number;
      readonly capSeconds: number;
      /** `equal`: half fixed, half random. `full`: all random. `none`: to the second. */
      readonly jitter: 'equal' | 'full' | 'none';
    };

/** 60 s, doubled each time, at most 600 s, equal jitter: never a storm, never at once. */
export const exponential: RetryPolicy = {
  kind: 'exponential',
  baseSeconds: 60,
  factor: 2,
  capSeconds: 600,
  jitter: 'equal',
};
/** 60, 120, 180 s to the second. */
export const linear60: RetryPolicy = { kind: 'delays', seconds: [60, 120, 180] };
/** 60, 120, 240, 480 s to the second. */
export const exp60: RetryPolicy = { kind: 'delays', seconds: [60, 120, 240, 480] };

/**
 * Milliseconds to wait before retry number `retry` (1 is the first). A list of delays repeats its last one.
 * `fraction` is uniform in [0, 1).
 */
export function retryDelayMs(policy: RetryPolicy, retry: number, fraction: number): number {
  switch (policy.kind) {
    case 'delays':
      return Math.round((policy.seconds[Math.min(retry, policy.seconds.length) - 1] ?? 0) * 1_000);
    case 'exponential': {
      const full = Math.round(Math.min(policy.capSeconds, policy.baseSeconds * policy.factor ** (retry - 1)) * 1_000);
      switch (policy.jitter) {
        case 'none':
          return full;
        case 'full':
          return Math.round(full * fraction);
        case 'equal':
          return Math.round(full / 2 + (full / 2) * fraction);
      }
    }
  }
}
