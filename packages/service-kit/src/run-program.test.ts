import { describe, expect, it } from 'vitest';
import { runProgram } from './run-program.ts';

const node = (script: string, options?: Parameters<typeof runProgram>[2]) =>
  runProgram(process.execPath, ['-e', script], options);

describe('runProgram', () => {
  it('gives both outputs and passes input and environment on', async () => {
    const script = `process.stdin.on('data', (data) => { console.log(String(data).toUpperCase() + process.env.NAME); console.error('aside'); });`;
    expect(await node(script, { input: 'hello ', env: { NAME: 'there' } })).toEqual({
      stdout: 'HELLO there\n',
      stderr: 'aside\n',
      exitCode: 0,
    });
  });

  it('fails with the exit code and the end of what was said, unless the code is fine', async () => {
    const script = `console.error('it broke'); process.exit(3)`;
    await expect(node(script)).rejects.toMatchObject({
      code: 'internal',
      details: { exitCode: 3 },
      message: expect.stringContaining('it broke'),
    });
    expect(await node(script, { okExitCodes: [0, 3] })).toMatchObject({ exitCode: 3 });
  });

  it('says what is not installed, and who ended it', async () => {
    await expect(runProgram('no-such-program', [])).rejects.toMatchObject({ code: 'not_found' });
    await expect(node(`process.kill(process.pid, 'SIGTERM'); setInterval(() => {}, 1000)`)).rejects.toThrow(
      'killed by SIGTERM',
    );
  });

  it('kills at its deadline, and when it is called off', async () => {
    const forever = 'setInterval(() => {}, 1000)';
    await expect(node(forever, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'deadline_exceeded' });
    await expect(node(forever, { signal: AbortSignal.timeout(50) })).rejects.toThrow();
  });

  it('goes on without a reader of its input', async () => {
    expect(await node('process.exit(0)', { input: 'x'.repeat(1_000_000) })).toMatchObject({ exitCode: 0 });
  });
});
