// Server-sent events as a client hears them.

export interface Heard {
  readonly id: string | undefined;
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** The events of a stream up to its end, or up to `most`; then it is hung up on. `listen` is told each as it comes. */
export async function hear(
  response: Response,
  most = Infinity,
  listen: (heard: Heard) => void = () => undefined,
): Promise<readonly Heard[]> {
  const heard: Heard[] = [];
  const frames = framesOf(response);
  for await (const frame of frames) {
    const fields = new Map(
      frame.split('\n').map((line) => {
        const at = line.indexOf(': ');
        return [line.slice(0, at), line.slice(at + 2)] as const;
      }),
    );
    const data = fields.get('data');
    if (data === undefined) continue;
    const event = fields.get('event') ?? 'message';
    const each = { id: fields.get('id'), event, data: JSON.parse(data) as Heard['data'] };
    heard.push(each);
    listen(each);
    if (heard.length >= most) break;
  }
  return heard;
}

async function* framesOf(response: Response): AsyncGenerator<string, undefined> {
  const body: ReadableStream<Uint8Array> | null = response.body;
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const frame = text.slice(0, end);
        text = text.slice(end + 2);
        yield frame;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
