// Every limit of the product: its name, its number and where the number comes from. Nothing else decides a limit.

/** Largest JSON body of a single request. Contract, section HTTP. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;
/** Largest body of POST /api/v1/jobs/batch. */
export const MAX_BATCH_BODY_BYTES = 16 * 1024 * 1024;
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
/** How long acceptance waits for the replay guard: longer than for what it can do without. Slack is answered before. */
export const GUARD_DEADLINE_MS = 4_000;
/** A job accepted while the replay guard was silent asks it again after this. */
export const GUARD_RETRY_MS = 15_000;
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
/** Who is parked for a lock and was not woken asks for it by himself after this, doubled each time. */
export const UNPARK_AFTER_MS = 10 * 60_000;
/** Jobs of a resumed queue that are sent at once, and by each tick after it. */
export const MAX_WOKEN_PER_TICK = 5_000;
/** Jobs one statement of a purge ends, and how long one request goes on. What is left then is said, and asked for again. */
export const PURGE_PAGE = 1_000;
export const PURGE_BUDGET_MS = 10_000;
/** Jobs that one bulk revoke takes. */
export const MAX_REVOKED = 1_000;
/** Open jobs of a queue are counted so far, due and later ones each. */
export const MAX_COUNTED = 10_000;
/** How long a look at a queue or a job waits for a queue to say how much it holds. */
export const LOOK_DEADLINE_MS = 1_000;
/** Owed rows looked after when a batch ends idle, and how rarely. */
export const IDLE_REPAIR_ROWS = 100;
export const IDLE_REPAIR_EVERY_MS = 30_000;
/** Two ticks are missing by then: the trigger has stopped. Whoever operates it is told within three minutes. */
export const CRON_SILENT_AFTER_MS = 150_000;
/** From then on the work of the tick is done this often without it. */
export const TAKE_OVER_EVERY_MS = 60_000;
/** An alarm is at most a minute late (a failover); one that is later slept, as everything did that it watches. */
export const ALARM_LATE_MS = 60_000;
/** No tick takes so long: one that does hangs, and another is begun beside it. */
export const MAX_TICK_MS = 280_000;
/** Pages of sensitive jobs cleared in one tick: each is a delete in KV and in R2. */
export const CLEAR_PAGES = 5;
/** Rows one sweep statement touches. */
export const SWEEP_PAGE = 200;
/** Finished rows retention looks at in one tick. */
export const RETENTION_PAGE = 2_000;

/** Most starts a rate limit may allow in its period: one object remembers each of them. */
export const MAX_RATE = 10_000;
/** How long a grant of a rate limit may wait for its start. Contract, section Durable Objects. */
export const GRANT_MS = 5_000;
/** A grant's start is reported about so long after it: what an estimate adds until the report is there. */
export const REPORT_ALLOWANCE_MS = 50;
/** A slot is kept for so long for whoever was told to come for it now. */
export const SLOT_KEPT_MS = 5_000;
/** Who was told to wait and comes so late has lost his place in the line. */
export const PLACE_KEPT_MS = 10 * 60_000;
/** A batch waits by itself for grants that are this near; messages know only whole seconds. */
export const NEAR_GRANT_MS = 300;
/** Whoever a limit or a lock cannot be asked for comes back after this. */
export const LIMIT_SILENT_MS = 10_000;
/** Whose grant or lease was no longer good when his handler could have started asks again after this. */
export const PASS_RETRY_MS = 1_000;
/** A rate limit or a lock that has not answered by then counts as silent. */
export const LIMIT_DEADLINE_MS = 4_000;
/** Longest time a far side's 429 keeps a rate limit shut; it will say so again. */
export const MAX_HOLD_MS = 24 * 3_600_000;
/** A longer key of a rate limit or a lock is told apart by its digest. */
export const MAX_LIMIT_KEY_CHARS = 255;
/** Where one whose turn it is will not come, so many behind him are looked at together; and how often one looks at most. */
export const LINE_PAGE = 1_000;
export const LINE_ROUNDS = 20;
/** How long after its last use the storage of a rate limit or a lock is given back. */
export const FORGET_AFTER_MS = 3_600_000;
/** How long a lock is kept for a job that was woken for it. Contract, section Durable Objects. */
export const TURN_MS = 30_000;
/** Who misses his turn is woken again when it has passed, then after twice that time, at most after this many doublings. */
export const MAX_TURN_DOUBLINGS = 4;

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
/** How far ahead business hours are looked for: over a year without any is a mistake. A day costs some microseconds. */
export const BUSINESS_HORIZON_DAYS = 400;
/** Time zones whose formatter an isolate keeps; about 50 KB each (measured), and people use a handful. */
export const MAX_ZONES_KEPT = 100;
/** How far before its time a batch waits for a job instead of putting it back: edge clocks differ. */
export const EARLY_WAIT_MS = 1_000;
/** An envelope older than this never makes a row, and no younger row is ever deleted. */
export const ENVELOPE_LIFE_MS = 4 * 86_400_000;
/** A job of a task this deployment does not know is put back for so long, and fails after so long. */
export const UNKNOWN_TASK_RETRY_SECONDS = 60;
export const UNKNOWN_TASK_LIFE_MS = 24 * 3_600_000;

/** Live output of one attempt, in UTF-8, and its events: what goes beyond is dropped, and a line says so. */
export const MAX_STREAM_BYTES = 1024 * 1024;
export const MAX_STREAM_EVENTS = 10_000;
/** Longest line of a log: the rest of it is cut off. */
export const MAX_LINE_CHARS = 4_000;
/** Longest chunk of one event: a longer text comes as several. */
export const MAX_CHUNK_CHARS = 16_000;
/** How often the live output of one attempt goes out, at most; and how soon it is tried again where it could not. */
export const STREAM_FLUSH_MS = 200;
export const STREAM_RETRY_MS = 500;
/** A job's stream that has not answered by then is silent: what is live can be done without. */
export const STREAM_DEADLINE_MS = 1_000;
/** How long the end of an attempt waits for the rest of its live output to be taken. */
export const STREAM_END_DEADLINE_MS = 2_000;
/** Live output is kept for so long after its last event, or as long as the job's result where that is shorter. */
export const STREAM_TTL_MS = 3_600_000;
/** But so long in any case: whoever looks now and then must not miss the end. */
export const MIN_STREAM_TTL_MS = 60_000;
/** Events read at once. */
export const STREAM_PAGE = 500;
/** How long one look at a stream waits for the next event. */
export const STREAM_WAIT_MS = 10_000;
/** How often whoever watches a job looks at its row, too. */
export const WATCH_LOOK_MS = 1_000;
/** How long one watches at most: an invocation may ask D1 1,000 times. Then the client comes back with Last-Event-ID. */
export const WATCH_MS = 10 * 60_000;
/**
 * A watcher that hears nothing for so long is sent a comment: what stands between closes idle connections, and that a
 * client has hung up is noticed by writing to it.
 */
export const KEEP_ALIVE_MS = 15_000;

/** An object in R2 that no job and no dead letter refers to leaves after this: until then a message may name it. */
export const ORPHAN_AFTER_MS = 5 * 86_400_000;
/** How often the sweep of orphans begins anew. */
export const ORPHANS_EVERY_MS = 3_600_000;

export const KEEP_SUCCESS_MS = 7 * 86_400_000;
export const KEEP_FAILURE_MS = 30 * 86_400_000;
export const KEEP_ALERTS_MS = 30 * 86_400_000;
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
export const MAX_UNIQUE_KEY_CHARS = 255;
/** How long beyond its due time a key without `for` names a job that has not ended. */
export const UNIQUE_LIFE_MS = 30 * 86_400_000;
/** Objects a replay guard's tokens are spread over. */
export const REPLAY_GUARD_SHARDS = 16;
