/** What `/init` applied to this sandbox: read by whatever starts programs or resolves paths. */
export interface SandboxSettings {
  envVars: Record<string, string>;
  /** The user of requests that name none. */
  defaultUser: string;
  /** Working directory of processes that name none; undefined means the user's home. */
  defaultWorkdir: string | undefined;
}

export function initialSettings(): SandboxSettings {
  return { envVars: {}, defaultUser: 'root', defaultWorkdir: undefined };
}
