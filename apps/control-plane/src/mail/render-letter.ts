import type { Letter } from './mail-kind.ts';

export interface RenderedLetter {
  subject: string;
  text: string;
  html: string;
}

const name = 'Aviary';

/** A letter as plain text and as HTML that says the same. Nothing in it is taken for markup, or for a header. */
export function renderLetter({ subject, paragraphs, link, closing }: Letter): RenderedLetter {
  const endings = closing === undefined ? [] : [closing];
  const text = [...paragraphs, ...(link ? [`${link.label}:\n${link.url}`] : []), ...endings, `-- \n${name}`];
  const html = [
    ...paragraphs.map(paragraph),
    ...(link ? [button(link), paragraph(`Or open ${link.url}`)] : []),
    ...endings.map(paragraph),
  ];
  return { subject: oneLine(subject), text: `${text.join('\n\n')}\n`, html: page(oneLine(subject), html.join('\n')) };
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escapeHtml(title)}</title></head>
<body style="margin:0;padding:24px;background:#f4f5f7;font-family:sans-serif;font-size:15px;line-height:1.5;color:#1f2933">
<div style="max-width:520px;margin:0 auto;padding:24px;background:#fff;border-radius:8px">
<p style="margin:0 0 16px;font-weight:600">${name}</p>
${body}
</div>
</body>
</html>
`;
}

const paragraph = (text: string) => `<p style="margin:0 0 16px;overflow-wrap:anywhere">${escapeHtml(text)}</p>`;

const button = ({ label, url }: { label: string; url: string }) =>
  `<p style="margin:0 0 16px"><a href="${escapeHtml(url)}" style="display:inline-block;padding:10px 16px;background:#0f766e;color:#fff;text-decoration:none;border-radius:6px">${escapeHtml(label)}</a></p>`;

/** For text and for attributes in double quotes. */
function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
}
