import type { Readable } from 'node:stream';
import type { Route } from '@aviary/api-contract';
import type { Static, TSchema } from 'typebox';

/** What a reply of the contract holds: nothing, bytes, or what its schema says. */
type ReplyBody<R> = [R] extends [null]
  ? undefined
  : [R] extends [string]
    ? Readable | Uint8Array
    : [R] extends [TSchema]
      ? Static<R>
      : never;

type Statuses<R extends Route> = keyof R['replies'] & number;

type Intersect<U> = (U extends unknown ? (one: U) => void : never) extends (all: infer I) => void ? I : never;
type IsOne<U> = [U] extends [Intersect<U>] ? true : false;

/** What a handler of a route answers: the body where the route has one status, else the status with the body that belongs to it. */
export type Answer<R extends Route> =
  IsOne<Statuses<R>> extends true
    ? ReplyBody<R['replies'][Statuses<R>]>
    : { [S in Statuses<R>]: { status: S; body: ReplyBody<R['replies'][S]> } }[Statuses<R>];

/** The one status of a route that has one; undefined where its handler chooses. */
export function onlyStatus(route: Route): number | undefined {
  const statuses = Object.keys(route.replies);
  return statuses.length === 1 ? Number(statuses[0]) : undefined;
}
