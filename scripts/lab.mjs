import { runPinned } from './bootstrap.mjs';

runPinned('lab.ts');
