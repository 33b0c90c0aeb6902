import type { UnitOfWork } from '@aviary/database';
import { backoffMs, runLoop } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import { type Letter, type LinkedPage, type MailKind, type NewMail, pageLink, type StoredMail } from './mail-kind.ts';
import { claimDueMails, deleteMail, deleteOldMails, insertMail, settleMail } from './mail-store.ts';
import { renderLetter } from './render-letter.ts';
import { type Delivery, type SmtpSettings, SmtpTransport } from './smtp-transport.ts';

export interface MailerOptions {
  pollMs: number;
  /** Mails that one replica sends at once. */
  parallel: number;
  /** How long one attempt may take. */
  sendMs: number;
  /** The first and the longest pause between two attempts. */
  minRetryMs: number;
  maxRetryMs: number;
  /** After so many attempts a mail has failed, if its time is not over before. */
  maxAttempts: number;
  /** So long a mail that was not sent stays for administrators to see. */
  keptMs: number;
}

export const defaultMailerOptions: MailerOptions = {
  pollMs: 5_000,
  parallel: 4,
  sendMs: 30_000,
  minRetryMs: 15_000,
  maxRetryMs: 3_600_000,
  maxAttempts: 30,
  keptMs: 7 * 24 * 3_600_000,
};

/** How mail is set up by who runs the platform. */
export interface MailSettings {
  publicUrl: URL;
  /** Undefined: no mail is sent, and links go to the log. */
  smtp: SmtpSettings | undefined;
}

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'>;

/**
 * Sends mails that were left in the transaction of what they tell of. No request waits for a mail server, and what it does not take is tried
 * again until the mail's time is over.
 *
 * No token lies around in clear: the table says to whom and about what. Composing a mail makes its token, whose hash is stored before the mail is
 * on its way; the token itself is in this process's memory, and in the mail. Each attempt makes another: a mail may come twice when the end of an
 * attempt is not known.
 */
export class Mailer {
  readonly #deps: Deps;
  readonly #options: MailerOptions;
  readonly #publicUrl: URL;
  readonly #transport: SmtpTransport | undefined;
  readonly #kinds = new Map<string, MailKind>();
  readonly #stopping = new AbortController();
  #round: Promise<void> | undefined;
  #isAskedAgain = false;

  constructor(deps: Deps, { publicUrl, smtp }: MailSettings, options: MailerOptions = defaultMailerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#publicUrl = publicUrl;
    this.#transport = smtp && new SmtpTransport(smtp);
  }

  /** What there is to write, from all modules; given once they are made. */
  use(kinds: readonly MailKind[]): void {
    for (const kind of kinds) this.#kinds.set(kind.kind, kind);
  }

  /** False where links go to who runs the platform instead. */
  get isOn(): boolean {
    return this.#transport !== undefined;
  }

  link(page: LinkedPage, token: string): string {
    return pageLink(this.#publicUrl, page, token);
  }

  /** Leaves a mail in the caller's transaction; it is sent once that is kept, or soon after when it is deferred. Throws `rate_limited` when too many wait. */
  async queue({ db, afterCommit }: UnitOfWork, mail: NewMail): Promise<void> {
    await insertMail(db, mail, this.#now());
    if (mail.isDeferred) return;
    afterCommit(() => {
      if (this.#stopping.signal.aborted) return;
      this.runOnce().catch((error: unknown) => this.#deps.logger.warn({ err: error }, 'mails wait for the next look'));
    });
  }

  /** Sends what is due, also what other replicas left, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    const stop = () => this.#stopping.abort();
    signal.addEventListener('abort', stop, { once: true });
    await runLoop({ name: 'mails', intervalMs: this.#options.pollMs, clock, logger }, () => this.runOnce(), signal);
    stop();
    await this.#round?.catch(() => undefined);
  }

  /** Sends what is due now. Rounds do not overlap: who asks during one waits for it and one more look. */
  runOnce(): Promise<void> {
    this.#isAskedAgain = true;
    this.#round ??= this.#sendDue();
    return this.#round;
  }

  async #sendDue(): Promise<void> {
    try {
      while (this.#isAskedAgain) {
        this.#isAskedAgain = false;
        await this.#sendBatches();
      }
    } finally {
      // In the same step as the last look at who asks: nobody waits for a round that does not look again.
      this.#round = undefined;
    }
  }

  async #sendBatches(): Promise<void> {
    const { database } = this.#deps;
    const { parallel, sendMs, keptMs } = this.#options;
    await deleteOldMails(database.db, new Date(this.#now().getTime() - keptMs));
    for (;;) {
      if (this.#stopping.signal.aborted) return;
      const batch = { kinds: [...this.#kinds.keys()], limit: parallel, now: this.#now(), leaseMs: 2 * sendMs };
      const mails = await claimDueMails(database.db, batch);
      const taken = await Promise.all(mails.map((mail) => this.#attempt(mail)));
      // A server that takes none of them is left alone for a while.
      if (mails.length < parallel || !taken.includes(true)) return;
    }
  }

  /** One attempt. False when the mail server was not to be had. */
  async #attempt(mail: StoredMail): Promise<boolean> {
    const { database } = this.#deps;
    if (mail.expiresAt <= this.#now() || mail.attempts > this.#options.maxAttempts) {
      await this.#giveUp(mail, 'it could not be sent in its time');
      return true;
    }
    const letter = await this.#compose(mail);
    if (!letter) await deleteMail(database.db, mail.id);
    else if (this.#transport) return await this.#settle(mail, await this.#deliver(this.#transport, mail, letter));
    else await this.#log(mail, letter);
    return true;
  }

  #compose(mail: StoredMail): Promise<Letter | undefined> {
    const kind = this.#kinds.get(mail.kind);
    return this.#deps.database.transaction(async ({ db }) =>
      kind?.compose(mail, {
        db,
        now: this.#now(),
        isMailed: this.isOn,
        link: (page, token) => this.link(page, token),
      }),
    );
  }

  #deliver(transport: SmtpTransport, mail: StoredMail, letter: Letter): Promise<Delivery> {
    // Of the machine's own time, as a connection is.
    const deadline = AbortSignal.timeout(this.#options.sendMs);
    const signal = AbortSignal.any([deadline, this.#stopping.signal]);
    return transport.send(letter.to ?? mail.to.address, renderLetter(letter), signal);
  }

  async #settle(mail: StoredMail, delivery: Delivery): Promise<boolean> {
    const { database, logger } = this.#deps;
    const facts = { mailId: mail.id, kind: mail.kind, attempts: mail.attempts };
    if (delivery.type === 'sent') {
      await deleteMail(database.db, mail.id);
      logger.info(facts, 'mail sent');
      return true;
    }
    if (delivery.type === 'refused') {
      await this.#giveUp(mail, delivery.reason);
      return true;
    }
    const { minRetryMs, maxRetryMs } = this.#options;
    const pauseMs = this.#stopping.signal.aborted
      ? 0
      : backoffMs(mail.attempts - 1, { initialMs: minRetryMs, maxMs: maxRetryMs });
    const nextAttemptAt = new Date(this.#now().getTime() + pauseMs);
    await settleMail(database.db, mail.id, { state: 'waiting', error: delivery.reason, nextAttemptAt });
    logger.warn({ ...facts, reason: delivery.reason, nextAttemptAt }, 'mail not sent; it is tried again');
    return false;
  }

  async #giveUp(mail: StoredMail, reason: string): Promise<void> {
    await settleMail(this.#deps.database.db, mail.id, { state: 'failed', error: reason });
    this.#deps.logger.error({ mailId: mail.id, kind: mail.kind, attempts: mail.attempts, reason }, 'mail given up');
  }

  /** Without a mail server: who runs the platform hands the link over. What has no link can be done without. */
  async #log(mail: StoredMail, { to = mail.to.address, subject, link }: Letter): Promise<void> {
    const { database, logger } = this.#deps;
    if (!link) return deleteMail(database.db, mail.id);
    await settleMail(database.db, mail.id, { state: 'logged', error: null });
    // Somebody has to do something about it: also told where only warnings are.
    logger.warn(
      { mailId: mail.id },
      `no mail server is set (AVIARY_SMTP_URL); hand this link to ${to} ("${subject}"): ${link.url}`,
    );
  }

  #now(): Date {
    return new Date(this.#deps.clock.now());
  }
}
