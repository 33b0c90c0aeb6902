import { HostAgent } from '@aviary/proto/hostagent';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { describeHostAgent } from './describe-host-agent.ts';
import { FakeHostAgent } from './fake-host-agent.ts';

describeHostAgent('FakeHostAgent', async () => {
  const agent = await FakeHostAgent.start();
  const transport = createConnectTransport({ baseUrl: `http://${agent.address}`, httpVersion: '2' });
  return {
    client: createClient(HostAgent, transport),
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
});
