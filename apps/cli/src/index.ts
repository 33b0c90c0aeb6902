export { type CliConfig, loadConfig } from './config.ts';
export { exitCodeOf } from './exit-codes.ts';
export { Output, renderTable } from './output.ts';
export { isRoot, runAsRoot } from './platform/become-root.ts';
export { findClaimLink } from './platform/claim-link.ts';
export { ensureHostPackages, ensureImages } from './platform/guest-images.ts';
export { LineTail, readableLogLine } from './platform/log-lines.ts';
export { reservePlatform } from './platform/reserve-platform.ts';
export { type Platform, readApiKey, startPlatform } from './platform/start-platform.ts';
