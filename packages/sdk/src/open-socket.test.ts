import { describe, expect, it } from 'vitest';
import { openSocket, type SocketSources, type WebSocketClass } from './open-socket.ts';

const request = {
  url: 'ws://127.0.0.1:1/',
  credentials: { 'X-API-Key': 'avy_test' } as Record<string, string>,
  userAgent: 'test',
};

/** A class that only notes what it was made with. */
function makeClass({ takesHeaders }: { takesHeaders: boolean }) {
  const made: unknown[] = [];
  class Fake extends EventTarget {
    constructor(_url: string, options?: object) {
      super();
      if (options && !takesHeaders) throw new DOMException('no such protocol', 'SyntaxError');
      made.push(options);
    }
  }
  return { made, Fake: Fake as unknown as WebSocketClass };
}

const sources = (platform: WebSocketClass | undefined, loaded?: WebSocketClass): SocketSources => ({
  platform,
  load: async () => {
    if (!loaded) throw new Error('no such package');
    return loaded;
  },
});

describe('the WebSocket is', () => {
  const headers = { 'User-Agent': 'test', 'X-API-Key': 'avy_test' };

  it("the platform's, where it sends headers", async () => {
    const { made, Fake } = makeClass({ takesHeaders: true });
    await openSocket(request, sources(Fake));
    expect(made).toEqual([{ headers }]);
  });

  it("the platform's without headers, where no key is to be sent", async () => {
    const { made, Fake } = makeClass({ takesHeaders: false });
    await openSocket({ ...request, credentials: {} }, sources(Fake));
    expect(made).toEqual([undefined]);
  });

  it.each([undefined, makeClass({ takesHeaders: false }).Fake])('the one of a package elsewhere', async (platform) => {
    const { made, Fake } = makeClass({ takesHeaders: true });
    await openSocket(request, sources(platform, Fake));
    expect(made).toEqual([{ headers }]);
  });

  it('missed by name', async () => {
    await expect(openSocket(request, sources(undefined))).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining("install the package 'ws'"),
    });
  });
});
