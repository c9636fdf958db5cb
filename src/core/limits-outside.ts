// Limits of what comes in from providers and goes out to others: each its name, its number and where the number comes from.

import { MAX_DELAY_SECONDS } from './limits.ts';

/** Largest webhook body: GitHub and Mailgun send up to 25 MB. */
export const MAX_WEBHOOK_BODY_BYTES = 25 * 1024 * 1024;
/** Largest payload of a webhook that is looked into: an isolate has 128 MB for text, parsed form and copies of it. */
export const MAX_PARSED_WEBHOOK_BYTES = 8 * 1024 * 1024;
/** Slack and OpenPhone send small bodies; nothing larger is read from them. */
export const MAX_SMALL_WEBHOOK_BODY_BYTES = 1024 * 1024;
/** How old or how far ahead a signed timestamp may be: Slack's and Standard Webhooks' own advice. */
export const SIGNATURE_WINDOW_SECONDS = 300;
/** Mailgun tries again for 8 h, and does not say whether it signs anew: older than this is stale. */
export const MAILGUN_WINDOW_HOURS = 12;
/** Tokens live 7 days; a window may not be longer. */
export const MAX_MAILGUN_WINDOW_HOURS = 144;
/** Tokens of the others live 7 days, too. */
export const MAX_OPENPHONE_WINDOW_SECONDS = 6 * 86_400;
/** Fields of a form that is read before anybody knows who sent it: a mail has hundreds at most. */
export const MAX_FORM_FIELDS = 5_000;
/** JSON that is parsed before anybody knows who sent it; a larger one has to show its signature first. */
export const MAX_UNVERIFIED_JSON_BYTES = 1024 * 1024;
/** How long a provider is kept waiting: Slack gives up after 3 s, GitHub after 10. */
export const SLACK_ANSWER_MS = 2_800;
export const WEBHOOK_ANSWER_MS = 9_000;
/** How much of a provider's own id of a delivery is kept. */
export const MAX_EVENT_ID_CHARS = 200;
/** Refused webhooks are counted; how often the counts are logged. */
export const REFUSALS_LOGGED_EVERY_MS = 60_000;
/** How long one request writes down what others received: `waitUntil` lasts 30 s. */
export const DELIVERY_LOG_TERM_MS = 20_000;
/** Deliveries an isolate remembers while the database is silent; of more it keeps no record. */
export const MAX_UNWRITTEN_DELIVERIES = 10_000;
/** Old deliveries deleted by one tick. */
export const DELIVERIES_PAGE = 1_000;
/** How long deliveries and their raw bodies are kept. */
export const KEEP_DELIVERIES_MS = 30 * 86_400_000;
export const KEEP_DELIVERIES_FILLING_MS = 7 * 86_400_000;
/** GitHub's signature has no time in it: whoever holds a signed request may send it again, so its tokens live long. */
export const GITHUB_TOKEN_TTL_MS = 30 * 86_400_000;
/** A body of GitHub's without the time of its event may rightly come again; copies of one event come within minutes. */
export const UNDATED_TOKEN_TTL_MS = 10 * 60_000;
/** A time in a body that is so near is that of its event; clocks differ, and GitHub may be late. */
export const DATED_WITHIN_MS = 3_600_000;
/** The other providers try again for 28 h at most, and their signatures age. */
export const WEBHOOK_TOKEN_TTL_MS = 7 * 86_400_000;

/** Longest URL that somebody outside may have requested: what every client and server of the field takes. */
export const MAX_URL_CHARS = 2_048;
/** How long a request on somebody's behalf may take in all: names, redirects and answer. */
export const OUTGOING_DEADLINE_MS = 10_000;
/** How often such a request follows a redirect. */
export const MAX_REDIRECTS = 3;
/** How much of an answer to it is read. */
export const MAX_ANSWER_BYTES = 64 * 1024;
/** Seconds before each retry of a callback, 27 h 35 min in all: Standard Webhooks, and Svix's own schedule. */
export const CALLBACK_RETRY_SECONDS: readonly number[] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
/** A response_url takes five answers within thirty minutes: Slack, "Handling user interaction". */
export const MAX_SLACK_RESPONSES = 5;
export const SLACK_RESPONSE_MS = 30 * 60_000;
/** Longest that a far side's `Retry-After` is believed: a queue message can wait no longer. */
export const MAX_RETRY_AFTER_SECONDS = MAX_DELAY_SECONDS;
/** How long an outside service may take for one answer. */
export const PROVIDER_DEADLINE_MS = 10_000;
/** Largest answer that is read from one: 300 events of Mailgun's are about 1 MB. */
export const MAX_PROVIDER_ANSWER_BYTES = 8 * 1024 * 1024;
/** A refusal for coming too often that names no time: GitHub's documentation says a minute at least. */
export const RATE_LIMIT_PAUSE_SECONDS = 60;

/** A delivery is looked for once it is so old: GitHub waits 10 s for us, and a job's row may come late. */
export const RECOVER_AFTER_MS = 5 * 60_000;
/** Until then GitHub delivers again what is asked for: "deliveries from the past 3 days". */
export const GITHUB_REDELIVERY_WINDOW_MS = 3 * 86_400_000;
/** Looked back a little further: what was asked for in the last hour of the window is recovered after it. */
export const GITHUB_LOOK_BACK_MS = GITHUB_REDELIVERY_WINDOW_MS + 2 * 3_600_000;
/** Largest page of deliveries: GitHub's own. */
export const GITHUB_PAGE = 100;
/** Pages read of one hook by one run: 10,000 deliveries, for 100 of the 5,000 requests an hour that a token has. */
export const MAX_GITHUB_PAGES = 100;
/** Redeliveries one run asks for: GitHub takes 500 requests an hour that make it do something, from all who use the token. */
export const MAX_REDELIVERIES = 100;
/** Between two of them: "wait at least one second between each request", and 80 a minute at most. */
export const REDELIVERY_PAUSE_MS = 1_000;
/** How often GitHub is asked for one delivery: what failed so often fails for a reason. */
export const MAX_REDELIVERIES_EACH = 5;
/** How far the time GitHub gives a delivery may be from when we wrote it down: clocks, 10 s of waiting, a busy log. */
export const DELIVERY_TIME_SLACK_MS = 2 * 60_000;
/** Missed deliveries looked after by one run. */
export const MAX_MISSED = 10_000;

/** Largest page of Mailgun's events: its own. */
export const MAILGUN_PAGE = 300;
/** Pages read of one domain by one run: 60,000 events. What is left is read by the next. */
export const MAX_MAILGUN_PAGES = 200;
/** Younger events are not to be trusted: Mailgun says they settle within half an hour. */
export const MAILGUN_SETTLES_MS = 30 * 60_000;
/** How far back the first run looks: a free account keeps its events for a day. */
export const MAILGUN_FIRST_LOOK_MS = 24 * 3_600_000;
/** Read again each time, for events that were put in order late. */
export const MAILGUN_OVERLAP_MS = 10 * 60_000;
/** Jobs made of missed events at once. */
export const MAX_RECOVERIES_AT_ONCE = 25;
/** Never further back: what the replay guard has forgotten would look as if it had been missed. */
export const MAILGUN_LOOK_BACK_MS = WEBHOOK_TOKEN_TTL_MS - 86_400_000;
/** How often what was missed is looked for: events of Mailgun's are an hour old then, and GitHub is asked 5 times in 3 days. */
export const RECOVERY_EVERY_MS = 3_600_000;
/** A hundred pages and a hundred redeliveries, a second each, and as much again: it fits a batch, and ends before the next. */
export const RECOVERY_SOFT_SECONDS = 600;
export const RECOVERY_HARD_SECONDS = 660;
