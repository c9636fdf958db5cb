// OpenPhone's payloads of every generation as one event, in the shape of the newest: what happened to which resource, in
// which context.

import type { Json } from '../core/json.ts';
import { objectIn, type JsonObject } from './provider.ts';

/** Names of members below `resource`, `context` and `links` are the provider's own. */
export interface OpenphoneEvent {
  readonly id: string;
  readonly type: string;
  readonly api_version: string;
  readonly created_at: string | null;
  readonly resource: JsonObject;
  readonly context: JsonObject;
  readonly links: JsonObject;
  /** As it came, where it is of no shape that is known. */
  readonly data?: Json;
}

const TYPES: Readonly<Record<string, string>> = {
  // What v4 calls them in its envelope.
  callSummary: 'call.summary.completed',
  callTranscript: 'call.transcript.completed',
  // A name that stands in old code and was never sent.
  'message.sent': 'message.delivered',
};

/** What an envelope of any generation says. */
export function normalise(envelope: JsonObject): OpenphoneEvent {
  const { id, type, apiVersion, createdAt } = envelope;
  const data = objectIn(envelope['data']);
  const text = (value: Json | undefined): string => (typeof value === 'string' ? value : '');
  const common = {
    id: text(id),
    type: Object.hasOwn(TYPES, text(type)) ? (TYPES[text(type)] ?? '') : text(type),
    api_version: text(apiVersion),
    created_at: typeof createdAt === 'string' ? createdAt : null,
  };
  if (data['resource'] !== undefined) {
    const { resource, context, links } = data;
    return { ...common, resource: objectIn(resource), context: objectIn(context), links: objectIn(links) };
  }
  if (data['object'] === undefined) {
    return { ...common, resource: {}, context: {}, links: {}, data: envelope['data'] ?? null };
  }
  return { ...common, ...fromLegacy(objectIn(data['object'])), links: {} };
}

/** What stood beside the resource's own members moves to its context, under its newer name. */
function fromLegacy(legacy: JsonObject): Pick<OpenphoneEvent, 'resource' | 'context'> {
  const { object, body, text, phoneNumberId, userId, conversationId, contactIds, from, to, participants, ...rest } =
    legacy;
  const { fields, status, ...resource } = rest;
  const isReport = object === 'callSummary' || object === 'callTranscript';
  return {
    resource: defined({
      ...resource,
      text: text ?? body,
      ...(isReport ? { processingStatus: status } : { status }),
      ...(fields === undefined ? {} : contactFields(fields)),
    }),
    context: defined({
      phoneNumberId,
      userId,
      conversationId,
      contacts: contactIds === undefined ? undefined : { ids: contactIds },
      senderIdentifier: from,
      recipientIdentifiers: to === undefined ? undefined : listOf(to),
      participants: participants === undefined ? undefined : { workspace: [], external: participants },
    }),
  };
}

// Of a group the oldest generation wrote the numbers into one text.
function listOf(to: Json): Json {
  return typeof to === 'string' ? to.split(',').map((each) => each.trim()) : to;
}

/** Contacts had their numbers and addresses under the names people gave them: as an object, before that as a list. */
function contactFields(fields: Json): Record<string, Json> {
  const named = Array.isArray(fields)
    ? fields.map(objectIn).map(({ name, value }) => [typeof name === 'string' ? name : '', value ?? null] as const)
    : Object.entries(objectIn(fields));
  const of = (pattern: RegExp): Json[] =>
    named
      .filter(([name]) => pattern.test(name))
      .flatMap(([name, value]) =>
        (Array.isArray(value) ? value : [value]).map((each: Json) => ({ value: each, type: name })),
      );
  const others = named.filter(([name]) => !PHONE.test(name) && !EMAIL.test(name));
  return {
    phoneNumbers: of(PHONE),
    emails: of(EMAIL),
    customFields: others.map(([name, value]) => ({ name, value })),
  };
}

const PHONE = /phone/i;
const EMAIL = /mail/i;

function defined(members: Readonly<Record<string, Json | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(members).filter((each): each is [string, Json] => each[1] !== undefined));
}
