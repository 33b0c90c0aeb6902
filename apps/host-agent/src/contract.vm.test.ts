import { describeHostAgent } from '@aviary/testing';
import { startAgentHarness } from './testing/agent-harness.ts';
import { testImages } from './testing/test-images.ts';

describeHostAgent('the real one', async () => startAgentHarness({ imagesFrom: await testImages() }));
