import { libcFunction } from './libc.ts';

/** Gives what malloc holds and nobody uses back to the kernel, in every arena: malloc_trim(3). */
export function trimMalloc(): void {
  libcFunction('int malloc_trim(size_t)')(0);
}
