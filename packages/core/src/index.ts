export * from './errors.ts';
export * from './ids.ts';
export * from './limits.ts';
export * from './must.ts';
export * from './names.ts';
export * from './sandbox-actions.ts';
export * from './sandbox-status.ts';
export * from './saved-states.ts';
