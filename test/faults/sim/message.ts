// What can be told of a message by its body.

import { z } from 'zod';

const withId = z.object({ id: z.string() });

/** The job of a message, where it has one. */
export function idOf(body: unknown): string | undefined {
  const parsed = withId.safeParse(body);
  return parsed.success ? parsed.data.id : undefined;
}
