import { startAgentHarness } from '../../../apps/host-agent/src/testing/agent-harness.ts';
import { testImages } from '../../../apps/host-agent/src/testing/test-images.ts';
import { describeHostAgent } from './describe-host-agent.ts';

describeHostAgent('the real one', async () => startAgentHarness({ imagesFrom: await testImages() }));
