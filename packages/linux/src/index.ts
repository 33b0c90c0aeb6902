export * from './file-extents.ts';
export * from './kernel-error.ts';
