import { runPinned } from './bootstrap.mjs';

runPinned('quickstart.ts');
