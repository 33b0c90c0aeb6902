interface Cookie {
  name: string;
  value: string;
  host: string;
  path: string;
}

export interface Page {
  status: number;
  headers: Headers;
  /** Where it leads, whole; null when it leads nowhere. */
  location: string | null;
  text: string;
}

/** For tests: a browser, as far as sign-ins go: cookies by host and path, and redirects that the test follows. */
export class TestBrowser {
  readonly #cookies: Cookie[] = [];

  /** One request. A form is sent by POST. */
  async open(url: string, { form, headers }: { form?: Record<string, string>; headers?: object } = {}): Promise<Page> {
    const cookie = this.cookiesFor(url);
    const response = await fetch(url, {
      redirect: 'manual',
      headers: { ...(cookie ? { cookie } : {}), ...headers },
      ...(form ? { method: 'POST', body: new URLSearchParams(form) } : {}),
    });
    for (const line of response.headers.getSetCookie()) this.#keep(url, line);
    const { status } = response;
    const location = response.headers.get('location');
    return {
      status,
      headers: response.headers,
      location: location === null ? null : new URL(location, url).href,
      text: await response.text(),
    };
  }

  /** The Cookie header of a request. */
  cookiesFor(url: string): string {
    const { hostname, pathname } = new URL(url);
    const sent = this.#cookies.filter(({ host, path }) => host === hostname && pathname.startsWith(path));
    return sent.map(({ name, value }) => `${name}=${value}`).join('; ');
  }

  #keep(url: string, line: string): void {
    const [pair = '', ...attributes] = line.split(';').map((part) => part.trim());
    const [name = '', value = ''] = pair.split('=', 2);
    const read = (key: string) =>
      attributes.find((one) => one.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1);
    const { hostname: host } = new URL(url);
    const path = read('path') ?? '/';
    const known = this.#cookies.findIndex((one) => one.name === name && one.host === host && one.path === path);
    if (known >= 0) this.#cookies.splice(known, 1);
    const isOver = read('max-age') === '0' || Date.parse(read('expires') ?? '9999-01-01') < Date.now();
    if (!isOver) this.#cookies.push({ name, value, host, path });
  }
}
