import { AviaryError } from './aviary-error.ts';

/** A class of WebSockets. Node, Bun and Deno have one that sends headers; a browser's refuses to be made with them. */
export type WebSocketClass = new (url: string, options?: { headers: Record<string, string> }) => WebSocket;

export interface SocketRequest {
  url: string;
  /** Headers that say who calls; none for a page that is known by its cookie. */
  credentials: Readonly<Record<string, string>>;
  userAgent: string;
}

/** What to look for a class of WebSockets in: the platform, then the package `ws`. */
export interface SocketSources {
  platform: WebSocketClass | undefined;
  load: () => Promise<WebSocketClass>;
}

const ownSources = (): SocketSources => ({
  platform: globalThis.WebSocket,
  load: async () => {
    const { WebSocket } = await import('ws');
    // Made for Node's events as well: of the platform's interface it has all.
    return WebSocket as unknown as WebSocketClass;
  },
});

/**
 * Begins to connect, with the platform's WebSocket wherever that can send the key. `ws` is loaded where there is none, or none that sends
 * headers; without a key none is needed: a page of the installation's own is known by its cookie. Throws AviaryError `unreachable`.
 */
export async function openSocket(request: SocketRequest, sources: SocketSources = ownSources()): Promise<WebSocket> {
  const { url, credentials, userAgent } = request;
  const headers = { 'User-Agent': userAgent, ...credentials };
  const { platform: Platform } = sources;
  if (Platform) {
    try {
      return new Platform(url, { headers });
    } catch (error) {
      // Taken for the name of a protocol, which it cannot be.
      if (Object.keys(credentials).length === 0) return new Platform(url);
      if (!(error instanceof Error) || error.name !== 'SyntaxError') throw error;
    }
  }
  let Loaded: WebSocketClass;
  try {
    Loaded = await sources.load();
  } catch (cause) {
    throw new AviaryError('unreachable', "no WebSocket here can send the API key; install the package 'ws'", { cause });
  }
  return new Loaded(url, { headers });
}
