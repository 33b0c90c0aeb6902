import type { CustomFetch } from 'openid-client';

/** More than any provider's document, key set or answer. */
const maxAnswerBytes = 1024 * 1024;
/** Statuses that come without a body. */
const bodiless: readonly number[] = [204, 205, 304];

/** Asks a provider: follows no redirect (the library asks for that), and reads an answer of a bounded size within the library's deadline. */
export const boundedFetch: CustomFetch = async (url, options) => {
  const response = await fetch(url, options as RequestInit);
  const { status, headers } = response;
  const bytes = await readBounded(response);
  return new Response(bodiless.includes(status) ? null : bytes, { status, headers });
};

async function readBounded(response: Response): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    // Leaving the loop ends the connection.
    if (size > maxAnswerBytes) throw new Error(`the provider's answer is longer than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}
