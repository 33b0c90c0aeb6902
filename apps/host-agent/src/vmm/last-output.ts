import { stripVTControlCharacters } from 'node:util';

const maxLines = 5;
const maxLength = 500;

/** How a kernel begins the line that says why it died (`panic()` in the kernel's kernel/panic.c). What follows are registers. */
const panicLine = /Kernel panic - .*/;

/**
 * The last lines of a guest's console, for people: at most 5 and 500 characters, blank ones and control characters left out. Of
 * a kernel that panicked, the line that says why.
 */
export function lastOutputOf(consoleText: string): string {
  const lines = consoleText
    .split(/[\r\n]+/)
    // A guest prints what it likes; this ends up in logs and on terminals.
    .map((line) =>
      stripVTControlCharacters(line)
        .replaceAll(/[^ -~]/g, '')
        .trim(),
    )
    .filter((line) => line !== '');
  const panic = lines.findLast((line) => panicLine.test(line) && !line.includes('end Kernel panic'));
  if (panic !== undefined) return (panicLine.exec(panic)?.[0] ?? panic).slice(0, maxLength);
  return lines.slice(-maxLines).join(' | ').slice(-maxLength);
}

/** `text`, and what the guest printed last if that is known. */
export function withLastOutput(text: string, lastOutput: string): string {
  return lastOutput === '' ? text : `${text}; the guest printed last: ${lastOutput}`;
}
