import type { Module } from '../module.ts';

/** Mail: what other modules leave is sent by any replica. */
export const mailModule: Module = {
  name: 'mail',
  loops: ({ mailer }) => [(signal) => mailer.run(signal)],
};
