import type { IncomingMessage } from 'node:http';

/** Node's fetch gives an answer up that takes 300 s to begin. Calls that may take longer than this go another way. */
export const fetchPatienceMs = 240_000;

export interface PatientRequest {
  method: string;
  headers: Record<string, string>;
  body: string | null;
  signal: AbortSignal;
}

/** As fetch, without a limit of its own: the signal's is the only one. A server that is lost is found out by the kernel's probes. */
export async function patientFetch(url: string, { method, headers, body, signal }: PatientRequest): Promise<Response> {
  const { request } = url.startsWith('https:') ? await import('node:https') : await import('node:http');
  const { Readable } = await import('node:stream');
  const incoming = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = request(url, { method, headers, signal }, resolve);
    outgoing.on('error', reject);
    outgoing.setSocketKeepAlive(true, 15_000);
    outgoing.end(body);
  });
  const status = incoming.statusCode ?? 500;
  const hasBody = status !== 204 && status !== 205 && status !== 304;
  if (!hasBody) incoming.resume();
  return new Response(hasBody ? (Readable.toWeb(incoming) as ReadableStream) : null, {
    status,
    headers: Object.entries(incoming.headersDistinct).flatMap(([name, values = []]) =>
      values.map((value): [string, string] => [name, value]),
    ),
  });
}
