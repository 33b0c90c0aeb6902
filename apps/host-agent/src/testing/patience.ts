/** How many times longer than elsewhere a test may wait for what it started: in the lab everything runs on a processor that another program emulates. */
const factor = process.env['AVIARY_LAB'] === '1' ? 6 : 1;

/** A deadline for tests, where `ms` does on an ordinary machine. */
export const patienceMs = (ms: number): number => ms * factor;
