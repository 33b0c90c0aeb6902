export { describeHostAgent, type StartedHostAgent } from './describe-host-agent.ts';
export { describeStores, type OpenStore } from './describe-stores.ts';
export type { FakeExecResult } from './fake-commands.ts';
export { FakeHostAgent } from './fake-host-agent.ts';
export { FakeSandboxes } from './fake-sandboxes.ts';
export { openTestDatabase } from './test-database.ts';
export { startTestPostgres, type TestPostgres } from './test-postgres.ts';
