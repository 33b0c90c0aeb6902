import { AppError, type ErrorCode, errorCodes } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { describe, expect, it } from 'vitest';
import { readAppError, toConnectError, withTranslatedErrors } from './connect-errors.ts';

const translate = (error: unknown) => readAppError(ConnectError.from(error)) ?? new AppError('internal', 'not ours');

/** A client of a server that fails each call with `error`, errors taken over the wire both ways. */
function failingClient(error: unknown) {
  const transport = createRouterTransport(({ service }) => {
    service(HostAgent, {
      pingSandbox: () => {
        throw toConnectError(error);
      },
      async *execStream() {
        yield { event: { case: 'start' as const, value: { pid: 1 } } };
        throw toConnectError(error);
      },
    });
  });
  return withTranslatedErrors(HostAgent, createClient(HostAgent, transport), translate);
}

describe('errors between the parts', () => {
  it.each(Object.keys(errorCodes) as ErrorCode[])('carry %s there and back, with message and details', async (code) => {
    const details = { field: 'päth', nested: { list: [1, null, 'x'] }, absent: undefined };
    const sent = new AppError(code, 'cannot do „it“ — 🐦', { details });
    const got = await failingClient(sent)
      .pingSandbox({})
      .catch((error: unknown) => error);
    expect(got).toBeInstanceOf(AppError);
    expect(got).toMatchObject({
      code,
      message: sent.message,
      details: { field: 'päth', nested: { list: [1, null, 'x'] } },
    });
    expect((got as AppError).details).not.toHaveProperty('absent');
  });

  it('reach who reads a stream, after what came before them', async () => {
    const client = failingClient(new AppError('disk_full', 'no space'));
    const seen: unknown[] = [];
    const reading = (async () => {
      for await (const { event } of client.execStream({})) seen.push(event.case);
    })();
    await expect(reading).rejects.toMatchObject({ name: 'AppError', code: 'disk_full' });
    expect(seen).toEqual(['start']);
  });

  it('tell nothing of what is not ours', async () => {
    const got = await failingClient(new Error('password is hunter2'))
      .pingSandbox({})
      .catch((error: unknown) => error);
    expect(got).toMatchObject({ code: 'internal' });
    expect(String(got)).not.toContain('hunter2');
  });

  it('are not made of what others send', () => {
    expect(readAppError(new ConnectError('gone', Code.Unavailable))).toBeUndefined();
    const forged = toConnectError(new AppError('internal', 'x'));
    Object.assign((forged.details[0] as { value: object }).value, { code: 'made_up' });
    expect(readAppError(forged)).toBeUndefined();
  });
});
