import type { GarbageCollector } from '../generations/garbage-collector.ts';
import type { ResumePreparer } from '../generations/resume-preparer.ts';
import type { BootSnapshots } from '../starts/boot-snapshots.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import type { WarmPool } from '../starts/warm-pool.ts';
import type { TemplateStore } from '../templates/template-store.ts';

/** What this host's commands work with. One per host agent; each command picks its part. */
export interface SandboxServices extends StartDeps {
  templates: TemplateStore;
  bootSnapshots: BootSnapshots;
  warmPool: WarmPool;
  garbage: GarbageCollector;
  preparer: ResumePreparer;
}
