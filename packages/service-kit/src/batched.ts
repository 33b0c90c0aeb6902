interface Waiting<Q, A> {
  question: Q;
  resolve: (answer: A) => void;
  reject: (error: unknown) => void;
}

/**
 * Asks together what is asked in one turn of the event loop, at most `maxSize` (default 100) at once. `askAll` answers in the order of the
 * questions; what it throws is thrown to all who asked.
 */
export function batched<Q, A>(
  askAll: (questions: readonly Q[]) => Promise<readonly A[]>,
  { maxSize = 100 }: { maxSize?: number } = {},
): (question: Q) => Promise<A> {
  let waiting: Waiting<Q, A>[] = [];
  const ask = async () => {
    const taken = waiting;
    waiting = [];
    try {
      const answers = await askAll(taken.map(({ question }) => question));
      if (answers.length !== taken.length) throw new Error('a batch was not answered whole');
      // A hole is an answer too.
      for (const [nth, { resolve }] of taken.entries()) resolve(answers[nth] as A);
    } catch (error) {
      for (const { reject } of taken) reject(error);
    }
  };
  return (question) =>
    new Promise((resolve, reject) => {
      const count = waiting.push({ question, resolve, reject });
      if (count === 1) setImmediate(() => waiting.length > 0 && void ask());
      if (count === maxSize) void ask();
    });
}
