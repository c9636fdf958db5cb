// What the state of a Durable Object needs of its storage, so that the same code runs elsewhere, too.

import type { Row } from '../core/ports.ts';

export interface Sql {
  exec(sql: string, ...params: (string | number | null)[]): Iterable<Row>;
}
