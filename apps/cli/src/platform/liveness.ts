import http2 from 'node:http2';

/** True when an HTTP/1.1 server answers, whatever it answers. Throws when none does, or `signal` aborts first. */
export async function answersHttp(url: string, signal: AbortSignal): Promise<boolean> {
  const response = await fetch(url, { signal, redirect: 'manual' });
  await response.body?.cancel();
  return true;
}

/**
 * True when an HTTP/2 server without TLS answers a request, whatever it answers. A connection alone would not tell: the kernel accepts it for a
 * process that hangs. Throws when none answers, or `signal` aborts first.
 */
export async function answersHttp2(url: string, signal: AbortSignal): Promise<boolean> {
  const session = http2.connect(url);
  try {
    return await new Promise<boolean>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      session.on('error', reject);
      const stream = session.request({ ':path': '/' });
      stream.on('response', () => resolve(true)).on('error', reject);
      stream.resume();
      if (signal.aborted) reject(signal.reason);
    });
  } finally {
    session.destroy();
  }
}
