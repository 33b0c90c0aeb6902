import { buildOpenapi } from '@aviary/api-contract';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';

const logo = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 132 32" height="32">
<path d="M4 26 16 6l12 20h-6l-6-10-6 10z" fill="#5eead4"/>
<text x="38" y="23" font-family="sans-serif" font-size="20" font-weight="600" fill="#fff">Aviary</text></svg>`;

/** The documents, made from the route table, and a page to read them, whose assets come from here. `/` leads there. */
export async function registerDocuments(app: FastifyInstance): Promise<void> {
  const document = buildOpenapi();
  const json = JSON.stringify(document);
  await app.register(swagger, { mode: 'static', specification: { document: document as never } });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    logo: { type: 'image/svg+xml', content: logo, href: '/docs', target: '_self' },
    theme: {
      title: 'Aviary API',
      favicon: [
        {
          filename: 'favicon.svg',
          rel: 'icon',
          type: 'image/svg+xml',
          sizes: 'any',
          content: logo.replace('0 0 132 32', '0 0 32 32'),
        },
      ],
    },
  });
  // Made once: it takes much longer than any answer may hold up the others.
  let yaml: string | undefined;
  app.get('/', async (_request, reply) => reply.redirect('/docs'));
  app.get('/openapi.json', async (_request, reply) => reply.type('application/json').send(json));
  app.get('/openapi.yaml', async (_request, reply) => {
    yaml ??= app.swagger({ yaml: true });
    return reply.type('application/yaml').send(yaml);
  });
}
