// /api/v1/jobs/:id/stream and /events: what a job says while it runs, pushed and polled.

import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { isId } from '../core/ids.ts';
import { formatInstant } from '../core/instant.ts';
import { isFinal } from '../core/states.ts';
import type { Place, StreamEvent } from '../durable/job-stream.ts';
import { findStanding } from '../jobs/inspect.ts';
import { isCleared } from '../jobs/payloads.ts';
import { readStream, watchJob, type Sighting } from '../jobs/watch.ts';
import type { Standing } from '../store/rows.ts';
import type { App } from './app.ts';
import { needs, showsPayload } from './auth.ts';
import type { Read } from './body.ts';
import { NO_JOB, problem, STREAM_SILENT } from './problems.ts';
import { page, readQuery } from './query.ts';

// Behind none of them: no attempt has this number.
const BEFORE_ALL: Place = { generation: 0, seq: 0 };

const place = z
  .string()
  .regex(/^\d{1,15}\.\d{1,15}$/, 'is no id of an event, <generation>.<number>')
  .transform((text): Place => {
    const [generation, seq] = text.split('.').map(Number);
    return { generation: generation ?? 0, seq: seq ?? 0 };
  });

export const streamRoutes = new Hono<App>();

streamRoutes.get('/:id/stream', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { last_event_id: place.optional() });
  if (!query.ok) return problem(query.failure);
  const last = readLastEventId(c.req.header('last-event-id'));
  if (!last.ok) return problem(last.failure);
  const job = await standingOf(c);
  if (job === undefined) return problem(NO_JOB);
  const over = new AbortController();
  const sightings = watchJob(c.get('rt'), job, last.value ?? query.value.last_event_id, over.signal);
  const shown = shows(c, job);
  return new Response(
    streamOf(sightings, over, (sighting) => frameOf(sighting, shown)),
    // No transformation: what compresses a stream holds it back.
    { headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-transform' } },
  );
});

streamRoutes.get('/:id/events', needs('jobs:read'), async (c) => {
  const query = readQuery(c, { limit: page.limit, after: place.optional() });
  if (!query.ok) return problem(query.failure);
  const { after, limit } = query.value;
  // Before its events: where it had ended, they are all there.
  const job = await standingOf(c);
  if (job === undefined) return problem(NO_JOB);
  const found = await readStream(c.get('rt'), job.id, { after, waitMs: 0, limit });
  if (found === undefined) return problem(STREAM_SILENT);
  const { generation, events } = found;
  const shown = shows(c, job);
  const items = events.flatMap((event) => {
    const visible = visibleOf(event, shown);
    if (visible === undefined) return [];
    const id = idOf({ generation, seq: event.seq });
    return [{ id, event: event.event, at: formatInstant(event.at), data: visible }];
  });
  const last = events.at(-1);
  const next = last === undefined ? (after ?? BEFORE_ALL) : { generation, seq: last.seq };
  const over = isFinal(job.state) && events.length < limit;
  return c.json({ items, next_cursor: over ? null : idOf(next) });
});

function readLastEventId(header: string | undefined): Read<Place | undefined> {
  const read = place.optional().safeParse(header);
  if (read.success) return { ok: true, value: read.data };
  const errors = read.error.issues.map(({ message }) => ({ path: 'Last-Event-ID', message }));
  return { ok: false, failure: { kind: 'invalid', errors } };
}

async function standingOf(c: Context<App, '/:id/stream'>): Promise<Standing | undefined> {
  const id = c.req.param('id');
  return isId(id) ? findStanding(c.get('rt'), id) : undefined;
}

function shows(c: Context<App>, job: Standing): boolean {
  return showsPayload(c) && !isCleared(job, c.get('rt').clock.now());
}

function idOf({ generation, seq }: Place): string {
  return `${String(generation)}.${String(seq)}`;
}

/** What of an event this caller may see; undefined where that is nothing. */
function visibleOf({ event, data }: StreamEvent, shown: boolean): StreamEvent['data'] | undefined {
  if (shown) return data;
  return event === 'progress' ? { percent: data.percent, note: null } : undefined;
}

/** A sighting as server-sent events have it. */
function frameOf(sighting: Sighting, shown: boolean): string {
  switch (sighting.kind) {
    case 'nothing':
      return ': still here\n\n';
    case 'standing':
      return `event: state\ndata: ${JSON.stringify(sighting.standing)}\n\n`;
    case 'event': {
      const { generation, event } = sighting;
      const id = idOf({ generation, seq: event.seq });
      const data = visibleOf(event, shown);
      // An id alone is no event, but the place from which whoever comes back goes on.
      if (data === undefined) return `id: ${id}\n\n`;
      return `id: ${id}\nevent: ${event.event}\ndata: ${JSON.stringify({ ...data, at: formatInstant(event.at) })}\n\n`;
    }
  }
}

// Made as it is read: when nobody reads any more, nothing more is looked for.
function streamOf(
  sightings: AsyncGenerator<Sighting, undefined>,
  over: AbortController,
  textOf: (sighting: Sighting) => string,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    pull: async (controller) => {
      const { done, value } = await sightings.next();
      if (over.signal.aborted) return;
      if (done === true) controller.close();
      else controller.enqueue(encoder.encode(textOf(value)));
    },
    cancel: () => {
      over.abort();
    },
  });
}
