// npm run smoke: what a newcomer does, against an instance that runs: one job, and a signed webhook of each provider, sent twice.
//   node scripts/smoke.mjs [address] [key]
//   address: http://127.0.0.1:$PORT by default   key: ADMIN_API_KEY   and the secrets of the providers, as npm start reads them
//   WAIT_SECONDS (5): how long the instance may take to come up

import { createHmac, randomUUID } from 'node:crypto';
import { readSettings } from './local.mjs';

const [address = `http://127.0.0.1:${process.env.PORT || '8787'}`, givenKey] = process.argv.slice(2);
const waitSeconds = Number(process.env.WAIT_SECONDS || '5');
let key;

const FINISHES_WITHIN_SECONDS = 30;
const ANSWERS_WITHIN_MS = 40_000;

try {
  await smoke();
} catch (error) {
  console.error(`FAILED  ${error.message}`);
  process.exitCode = 1;
}

async function smoke() {
  await untilLive();
  // Not before: the first start makes them.
  const settings = await readSettings(process.env);
  key = givenKey ?? settings.ADMIN_API_KEY;
  if (!key)
    throw new Error('No key: give it as the second argument, or in ADMIN_API_KEY. npm start makes one in .dev.vars.');
  say('live', address);

  const sent = await post('/api/v1/jobs', JSON.stringify({ task: 'debug_task', input: { hello: 'world' } }), {});
  expect('POST /api/v1/jobs', sent, 202);
  say('accepted', `job ${sent.body.id} on queue ${sent.body.queue}`);
  const job = await finished(sent.body.id);
  say(job.state, `attempt ${job.attempt}, result ${JSON.stringify(job.result?.input)}`);

  for (const [provider, { body, headers, secret: name }] of Object.entries(deliveries(settings))) {
    if (!settings[name]) throw new Error(`No ${name}, neither in the environment nor in .dev.vars.`);
    const path = `/webhooks/${provider}`;
    const first = await post(path, body, headers);
    expect(`POST ${path}`, first, 200);
    say(first.body.status, `${provider} as job ${first.body.job_id}`);
    const webhook = await finished(first.body.job_id);
    say(webhook.state, `attempt ${webhook.attempt}, event ${webhook.result?.event}`);
    const again = await post(path, body, headers);
    expect('The same webhook again', again, 200);
    if (again.body.status !== 'duplicate' || again.body.job_id !== first.body.job_id) {
      throw new Error(`The same webhook again: ${JSON.stringify(again.body)}, not a duplicate of ${first.body.job_id}`);
    }
    say('duplicate', `the same webhook again is job ${again.body.job_id} still`);
  }
}

/** One delivery of each provider, signed as it signs. */
function deliveries(settings) {
  const seconds = String(Math.floor(Date.now() / 1_000));
  const id = randomUUID();
  const hmac = (key, message, encoding = 'hex') => createHmac('sha256', key).update(message).digest(encoding);
  const text = (name) => settings[name] ?? '';

  const push = JSON.stringify({ ref: 'refs/heads/main', after: id, repository: { full_name: 'lovage/smoke' } });
  const token = id.replaceAll('-', '').padEnd(50, '0');
  const signature = hmac(text('MAILGUN_SIGNING_KEY'), seconds + token);
  const opened = { event: 'opened', id, timestamp: Number(seconds), recipient: 'smoke@example.com' };
  const mention = JSON.stringify({
    type: 'event_callback',
    event_id: id,
    event: { type: 'app_mention', text: 'smoke' },
  });
  const message = JSON.stringify({ id, type: 'message.received', data: { resource: { id, text: 'smoke' } } });
  const openphone = Buffer.from(text('OPENPHONE_SIGNING_KEY').replace(/^whsec_/, ''), 'base64');
  return {
    github: {
      secret: 'GITHUB_WEBHOOK_SECRET',
      body: push,
      headers: {
        'x-github-event': 'push',
        'x-github-delivery': id,
        'x-hub-signature-256': `sha256=${hmac(text('GITHUB_WEBHOOK_SECRET'), push)}`,
      },
    },
    mailgun: {
      secret: 'MAILGUN_SIGNING_KEY',
      body: JSON.stringify({ signature: { timestamp: seconds, token, signature }, 'event-data': opened }),
      headers: {},
    },
    slack: {
      secret: 'SLACK_SIGNING_SECRET',
      body: mention,
      headers: {
        'x-slack-request-timestamp': seconds,
        'x-slack-signature': `v0=${hmac(text('SLACK_SIGNING_SECRET'), `v0:${seconds}:${mention}`)}`,
      },
    },
    openphone: {
      secret: 'OPENPHONE_SIGNING_KEY',
      body: message,
      headers: {
        'webhook-id': `msg_${id}`,
        'webhook-timestamp': seconds,
        'webhook-signature': `v1,${hmac(openphone, `msg_${id}.${seconds}.${message}`, 'base64')}`,
      },
    },
  };
}

async function untilLive() {
  const giveUpAt = Date.now() + waitSeconds * 1_000;
  for (;;) {
    const live = await fetch(`${address}/health/live`, { signal: AbortSignal.timeout(5_000) }).catch((error) => ({
      error,
    }));
    if (live.ok) return;
    const why = live.error?.cause?.message ?? live.error?.message ?? `HTTP ${live.status}`;
    if (Date.now() > giveUpAt) throw new Error(`${address} does not answer (${why}). Is it running? npm start`);
    await new Promise((wake) => setTimeout(wake, 250));
  }
}

async function finished(id) {
  const { body: job } = await call(`/api/v1/jobs/${id}?wait=${FINISHES_WITHIN_SECONDS}`, {});
  if (job.state === 'SUCCESS') return job;
  const why = job.error?.message ?? job.waiting_for ?? job.detail ?? '';
  throw new Error(`Job ${id} is ${job.state ?? 'unknown'} after ${FINISHES_WITHIN_SECONDS} s at most: ${why}`);
}

function post(path, body, headers) {
  return call(path, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });
}

async function call(path, init) {
  // Who sends a webhook has no key.
  const headers = path.startsWith('/webhooks/') ? init.headers : { authorization: `Bearer ${key}`, ...init.headers };
  const signal = AbortSignal.timeout(ANSWERS_WITHIN_MS);
  const response = await fetch(`${address}${path}`, { ...init, headers, signal });
  const text = await response.text();
  const json = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, body: json ? JSON.parse(text) : { detail: text.slice(0, 500) } };
}

function expect(what, { status, body }, wanted) {
  if (status === wanted) return;
  throw new Error(`${what} answers ${status}, not ${wanted}: ${body.detail ?? JSON.stringify(body)}`);
}

function say(state, text) {
  console.log(`${state.padEnd(9)}  ${text}`);
}
