import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { watchPaths } from './known-paths.ts';

const app = Fastify();
const methodsOf = watchPaths(app);
app.get('/things', async () => '');
app.post('/things', async () => '');
app.delete('/things/:id', async () => '');
app.get('/files/*', async () => '');
app.get('/a.b', async () => '');

test.each([
  ['/things', ['GET', 'HEAD', 'POST']],
  ['/things/', ['GET', 'HEAD', 'POST']],
  ['/things?x=/things/1', ['GET', 'HEAD', 'POST']],
  ['/things/1', ['DELETE']],
  ['/things/1/2', []],
  ['/files/a/b', ['GET', 'HEAD']],
  ['/a.b', ['GET', 'HEAD']],
  ['/axb', []],
  ['/', []],
])('%s has %j', (url, methods) => {
  expect(methodsOf(url).toSorted()).toEqual(methods);
});
