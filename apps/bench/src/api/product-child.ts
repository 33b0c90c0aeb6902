import { monitorEventLoopDelay } from 'node:perf_hooks';
import { loadConfig, startControlPlane } from '@aviary/control-plane';
import { answerParent } from './child-process.ts';

/** How often the event loop is looked at, in milliseconds: that much of each delay is the looking. */
const resolution = 1;
let delay: ReturnType<typeof monitorEventLoopDelay> | undefined;

const tasks = {
  async start(_input: null): Promise<string> {
    const { url } = await startControlPlane(loadConfig(process.env));
    return url;
  },
  /** Begins to watch how late the event loop is. */
  async watchDelay(_input: null): Promise<void> {
    delay = monitorEventLoopDelay({ resolution });
    delay.enable();
  },
  /** How late it was since, at most in 99 of 100 looks, in milliseconds. */
  async readDelay(_input: null): Promise<number> {
    delay?.disable();
    return Math.max(0, (delay?.percentile(99) ?? 0) / 1e6 - resolution);
  },
};
export type ProductTasks = typeof tasks;

answerParent(tasks);
