import { type Static, Type } from 'typebox';
import { component } from './component.ts';

/** The body of every error. */
export const ErrorReply = component(
  'ErrorReply',
  Type.Object({
    error: Type.Object({
      code: Type.String(),
      message: Type.String(),
      request_id: Type.String(),
      details: Type.Record(Type.String(), Type.Unknown()),
    }),
  }),
);
export type ErrorReply = Static<typeof ErrorReply>;
