// What tests use of the package, which brings no types.
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  export interface OidcAccount {
    accountId: string;
    claims(): Promise<{ sub: string; [claim: string]: unknown }>;
  }

  class Provider {
    constructor(
      issuer: string,
      configuration: {
        clients: object[];
        claims: Record<string, string[]>;
        jwks?: { keys: object[] };
        cookies?: { keys: string[] };
        findAccount(context: unknown, id: string): Promise<OidcAccount | undefined>;
      },
    );
    callback(): (request: IncomingMessage, response: ServerResponse) => void;
  }

  export { Provider as default };
}
