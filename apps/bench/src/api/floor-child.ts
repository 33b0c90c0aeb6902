import { randomUUID } from 'node:crypto';
import Fastify from 'fastify';
import pg from 'pg';
import { answerParent } from './child-process.ts';

const pool = new pg.Pool({ connectionString: process.env['AVIARY_DATABASE_URL'], max: 10 });
// The server ends before its clients do.
pool.on('error', () => undefined);
const app = Fastify();

app.get<{ Params: { id: string } }>('/sandboxes/:id', async (request) => {
  const { rows } = await pool.query('SELECT * FROM sandboxes WHERE id = $1', [request.params.id]);
  return rows[0];
});

/** One transaction with as many statements as the product's own has. */
app.post<{ Querystring: { reads: string; writes: string } }>('/rows', async (request, reply) => {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    for (let i = 0; i < Number(request.query.reads); i++)
      await client.query('SELECT * FROM floor_rows WHERE id = $1', [firstId]);
    for (let i = 0; i < Number(request.query.writes); i++)
      await client.query('INSERT INTO floor_rows (id, body) VALUES ($1, $2)', [
        randomUUID(),
        JSON.stringify(request.body),
      ]);
    await client.query('COMMIT');
  } finally {
    client.release();
  }
  return reply.status(202).send(request.body);
});

const firstId = randomUUID();
const tasks = {
  async start(_input: null): Promise<string> {
    await pool.query('CREATE TABLE floor_rows (id uuid PRIMARY KEY, body jsonb NOT NULL)');
    await pool.query(`INSERT INTO floor_rows (id, body) VALUES ($1, '{}')`, [firstId]);
    return await app.listen({ host: '127.0.0.1', port: 0 });
  },
};
export type FloorTasks = typeof tasks;

answerParent(tasks);
