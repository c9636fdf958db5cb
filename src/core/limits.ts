// Every limit of the product: its name, its number and where the number comes from. Nothing else decides a limit.

/** Largest JSON body of a single request. Contract, section HTTP. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;
/** Largest body of POST /api/v1/jobs/batch. */
export const MAX_BATCH_BODY_BYTES = 16 * 1024 * 1024;
/** Largest webhook body: GitHub and Mailgun send up to 25 MB. */
export const MAX_WEBHOOK_BODY_BYTES = 25 * 1024 * 1024;
/** The rest of a refused body is taken and dropped for so long at most, and only while it keeps coming. */
export const DRAIN_DEADLINE_MS = 5_000;
export const DRAIN_IDLE_MS = 250;
/** Deepest nesting of a JSON body; deeper is refused before it is parsed. */
export const MAX_JSON_DEPTH = 64;
/** Jobs in one POST /api/v1/jobs/batch. */
export const MAX_BATCH_JOBS = 1_000;
/** Largest input that rides in the message and the row (a message is 128,000 B with its envelope); others go to R2. */
export const MAX_INLINE_INPUT_BYTES = 96_000;
/** Largest result that is kept in the row; others go to KV. */
export const MAX_INLINE_RESULT_BYTES = 64_000;
/** Largest input or result at all: a KV value may be 25 MiB, but an isolate has 128 MB for all it does. */
export const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024;
/** Inputs kept aside that one batch loads; one is always taken. What does not fit comes back by itself. */
export const MAX_LOADED_INPUT_BYTES = 32 * 1024 * 1024;
/** How long an input that could not be read is waited for, its attempt returned. */
export const INPUT_RETRY_MS = 30_000;
/** A result in KV outlives what is shown of it by what its finish may be late; 60 s is the least KV takes. */
export const RESULT_SLACK_SECONDS = 900;
export const MIN_KV_TTL_SECONDS = 60;
/** A value just written may be unseen elsewhere for so long: until then a result that is not there is not yet gone. */
export const KV_SETTLES_MS = 60_000;
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
/** How long a provider is kept waiting: Slack gives up after 3 s, GitHub after 10. */
export const SLACK_ANSWER_MS = 2_800;
export const WEBHOOK_ANSWER_MS = 9_000;
/** How long acceptance waits for the replay guard: longer than for what it can do without. Slack is answered before. */
export const GUARD_DEADLINE_MS = 4_000;
/** A job accepted while the replay guard was silent asks it again after this. */
export const GUARD_RETRY_MS = 15_000;
/** A claimed token whose job has no row after this has lost its request: D1 and the queue retry for minutes, no longer. */
export const ROW_APPEARS_MS = 15 * 60_000;
/** How much of a provider's own id of a delivery is kept. */
export const MAX_EVENT_ID_CHARS = 200;
export const MAX_IDEMPOTENCY_KEY_CHARS = 255;
export const MAX_TAGS = 20;
export const MAX_TAG_CHARS = 100;
export const MAX_RETRIES = 100;
/** Longest progress note and reason of a deferral: they ride in statements that many jobs share. */
export const MAX_NOTE_CHARS = 500;
/** Faults a refusal lists; one body may hold hundreds of thousands. */
export const MAX_FAULTS = 100;
/** How far ahead anything may be due or be kept: a century. Beyond the year 275,760 there are no dates. */
export const MAX_AHEAD_SECONDS = 100 * 365 * 86_400;
/** How long a batch goes on running, one by one, jobs whose attempt has vanished before. */
export const APART_MS = 10_000;
/** Between these the rest of them come back, so that the next batches differ. */
export const APART_MIN_SECONDS = 1;
export const APART_MAX_SECONDS = 30;
/** Longest error message that is stored. */
export const MAX_ERROR_MESSAGE_CHARS = 4_000;

/** Pages of a list: `?limit=`. */
export const DEFAULT_PAGE = 50;
export const MAX_PAGE = 200;
/** Rows a filtered list looks at before it answers with a short page and a cursor. */
export const MAX_ROWS_SCANNED = 2_000;
/** Longest `?wait=`. */
export const MAX_WAIT_SECONDS = 30;

/** One `sendBatch`: 100 messages and 256 KB; 16 KB are left for the platform's own metadata. */
export const MAX_SEND_MESSAGES = 100;
export const MAX_SEND_BYTES = 240_000;
/** A bound value of D1 may be 2 MB; half of it leaves room for multi-byte text. */
export const MAX_BOUND_BYTES = 1_000_000;
/** Items committed together: what one bound value and a thousand-item request hold. */
export const MAX_GROUP_ITEMS = 1_000;

/** How long acceptance waits for the database and the queue. */
export const ACCEPT_DEADLINE_MS = 2_500;
/** How long a request leads: who comes later starts a group of its own, so no flush outlives `waitUntil` (30 s). */
export const GROUP_TERM_MS = 1_000;
/** How long a follower waits for its leader: a term, a flush, and the messages a flush sends late. */
export const FOLLOWER_DEADLINE_MS = GROUP_TERM_MS + 2 * ACCEPT_DEADLINE_MS;
/** A statement of a consumer or a sweep that has not answered by then counts as an outage. */
export const STATEMENT_DEADLINE_MS = 10_000;
/** The same for a payload that is kept beside the database: megabytes, not rows. */
export const PAYLOAD_DEADLINE_MS = 10_000;
/** A binding that does not answer a health probe within this is unhealthy. */
export const PROBE_DEADLINE_MS = 2_000;

/** A job due later than this has no message yet: its row is owed one, and the tick sends it. */
export const MESSAGE_HORIZON_SECONDS = 60;
/** The tick hands out what is due within this, whatever its own second. */
export const TICK_HORIZON_SECONDS = 75;
/** Delayed messages per queue and minute: 10,000 waiting ones kill a local queue. */
export const MAX_DELAYED_PER_MINUTE = 5_000;
/** Owed messages sent per queue and tick. */
export const MAX_OWED_PER_TICK = 5_000;
/** Messages sent again on suspicion, per queue and tick. */
export const MAX_SUSPECTS_PER_TICK = 1_000;
/** Unclaimed for so long after it was due and sent, a job's message may be lost. */
export const SUSPECT_AFTER_MS = 120_000;
/** A message sent so much earlier than the oldest one waiting is gone. */
export const SUSPECT_GAP_MS = 60_000;
/** A suspect whose queue tells nothing is sent again after this, doubled each time. */
export const RESEND_AFTER_MS = 30 * 60_000;
/** Owed rows looked after when a batch ends idle, and how rarely. */
export const IDLE_REPAIR_ROWS = 100;
export const IDLE_REPAIR_EVERY_MS = 30_000;
/** Pages of sensitive jobs cleared in one tick: each is a delete in KV and in R2. */
export const CLEAR_PAGES = 5;
/** Rows one sweep statement touches. */
export const SWEEP_PAGE = 200;
/** Finished rows retention looks at in one tick. */
export const RETENTION_PAGE = 2_000;

export const LEASE_MS = 90_000;
export const HEARTBEAT_MS = 20_000;
/** Claims that may vanish before the job fails with code `lost`: the fourth is the last. */
export const MAX_LOST = 3;
/** A batch has 15 min of wall time; nothing of it may run longer than this. */
export const BATCH_BUDGET_MS = 14.5 * 60_000;
/** Longest hard limit a task or a call may ask for: it must fit a batch. */
export const MAX_TIME_LIMIT_SECONDS = 840;
export const DEFAULT_SOFT_SECONDS = 50;
export const DEFAULT_HARD_SECONDS = 60;
export const DEFAULT_MAX_RETRIES = 3;
export const DEFAULT_RESULT_TTL_SECONDS = 3_600;
/** The platform gives a message 100 retries; from this delivery on the row is owed a fresh one. */
export const LAST_DELIVERY = 90;
/** Longest delay of a queue message. */
export const MAX_DELAY_SECONDS = 86_400;
/** How long outcomes are gathered before they are written: 100 quick jobs cost one statement. */
export const FINISH_LINGER_MS = 5;
/** How long a batch waits for a hook. */
export const HOOK_DEADLINE_MS = 10_000;
/** How far before its time a batch waits for a job instead of putting it back: edge clocks differ. */
export const EARLY_WAIT_MS = 1_000;
/** An envelope older than this never makes a row, and no younger row is ever deleted. */
export const ENVELOPE_LIFE_MS = 4 * 86_400_000;
/** A job of a task this deployment does not know is put back for so long, and fails after so long. */
export const UNKNOWN_TASK_RETRY_SECONDS = 60;
export const UNKNOWN_TASK_LIFE_MS = 24 * 3_600_000;

/** An object in R2 that no job and no dead letter refers to leaves after this: until then a message may name it. */
export const ORPHAN_AFTER_MS = 5 * 86_400_000;
/** How often the sweep of orphans begins anew. */
export const ORPHANS_EVERY_MS = 3_600_000;

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
export const KEEP_SUCCESS_MS = 7 * 86_400_000;
export const KEEP_FAILURE_MS = 30 * 86_400_000;
/** How full the database is (share of its size limit) when it is said aloud and finished jobs are kept less long. */
export const FILLING = 0.8;
/** How full it is when no more jobs are accepted. */
export const FULL = 0.95;
/** How long finished jobs are kept in a database that fills up: longer than a message could still make their row. */
export const KEEP_SUCCESS_FILLING_MS = 5 * 86_400_000;
export const KEEP_FAILURE_FILLING_MS = 7 * 86_400_000;
/** Pages of retention in one tick of a database that fills up. */
export const RETENTION_PAGES_FILLING = 10;
/** Largest D1 database on the Paid plan; the Free plan has 500 MB. */
export const DEFAULT_DATABASE_LIMIT_MB = 10_000;

/** How long an Idempotency-Key names its first job. */
export const IDEMPOTENCY_TTL_MS = 72 * 3_600_000;
/** GitHub's signature has no time in it: whoever holds a signed request may send it again, so its tokens live long. */
export const GITHUB_TOKEN_TTL_MS = 30 * 86_400_000;
/** The other providers try again for 28 h at most, and their signatures age. */
export const WEBHOOK_TOKEN_TTL_MS = 7 * 86_400_000;
/** Objects a replay guard's tokens are spread over. */
export const REPLAY_GUARD_SHARDS = 16;

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
