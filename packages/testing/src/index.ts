export { describeHostAgent, type StartedHostAgent } from './describe-host-agent.ts';
export { describeStores, type OpenStore } from './describe-stores.ts';
export { FakeHostAgent } from './fake-host-agent.ts';
export { type FakeExecResult, FakeSandboxes } from './fake-sandboxes.ts';
export { openTestDatabase } from './test-database.ts';
export { startTestPostgres, type TestPostgres } from './test-postgres.ts';
