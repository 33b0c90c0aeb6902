import { type AppError, errorText } from '@aviary/core';
import { currentTrace } from '@aviary/service-kit/trace';

/** Writes an error that is not of a client's making to the console, with the ids of the request that met it, as the host names it. */
export function logInternalError(error: AppError): void {
  if (error.code !== 'internal') return;
  const ids = Object.entries(currentTrace()).map(([name, id]) => ` ${name}=${id}`);
  console.error(`internal error${ids.join('')}: ${errorText(error.cause ?? error)}`);
}
