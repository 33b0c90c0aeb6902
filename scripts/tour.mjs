import { runPinned } from './bootstrap.mjs';

runPinned('run-tour.ts');
