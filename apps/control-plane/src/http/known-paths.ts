import type { FastifyInstance } from 'fastify';

/** Notes every path that `app` gets from now on, and tells which methods the path of a URL has: for 405 and its `Allow`. */
export function watchPaths(app: FastifyInstance): (url: string) => string[] {
  const patterns = new Map<string, { pattern: RegExp; methods: Set<string> }>();
  app.addHook('onRoute', ({ url, method }) => {
    const known = patterns.get(url) ?? { pattern: toPattern(url), methods: new Set() };
    for (const one of [method].flat()) known.methods.add(one);
    patterns.set(url, known);
  });
  return (url) => {
    const path = url.split('?', 1)[0] ?? '';
    return [...new Set([...patterns.values()].flatMap((one) => (one.pattern.test(path) ? [...one.methods] : [])))];
  };
}

function toPattern(url: string): RegExp {
  const escaped = url.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll(/:\w+/g, '[^/]+').replaceAll('*', '.*')}/?$`);
}
