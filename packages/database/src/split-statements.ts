/**
 * The statements of a migration file. Knows line comments, quoted text and dollar-quoted bodies, which is all that our
 * files use. PGlite's prepared queries take one statement at a time.
 */
export function splitStatements(content: string): string[] {
  const statements: string[] = [];
  let start = 0;
  const token = /--[^\n]*|'(?:[^']|'')*'|"[^"]*"|\$([a-z_]*)\$[\s\S]*?\$\1\$|;/g;
  for (const match of content.matchAll(token)) {
    if (match[0] !== ';') continue;
    statements.push(content.slice(start, match.index));
    start = match.index + 1;
  }
  statements.push(content.slice(start));
  return statements.map((text) => text.trim()).filter((text) => text.replaceAll(/--[^\n]*/g, '').trim() !== '');
}
