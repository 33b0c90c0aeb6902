/**
 * What the pages do, by their last path segment. `call(path, body, token)` asks the API and gives the answer's body; it throws an Error with the
 * API's message. Each takes the link's token and the form's fields, and resolves with what to tell.
 */
export const actions = {
  'verify-email': async (call, token) => {
    await call('/v1/auth/verify-email', { token });
    return 'Your address is verified. You can close this page.';
  },

  'reset-password': async (call, token, { password }) => {
    await call('/v1/me/password/reset/confirm', { token, new_password: password });
    return 'Your password is set, and all of your sessions have ended. Log in again with the new one.';
  },

  invitation: async (call, token, { email, password, code, isNew }) => {
    const credentials = { email, password, refresh_token_in: 'body' };
    const answer = await call(isNew ? '/v1/auth/signup' : '/v1/auth/login', credentials);
    const session = answer.challenge ? await completeLogIn(call, answer.challenge, code) : answer;
    try {
      const team = await call('/v1/invitations/accept', { token }, session.access_token);
      return `You are in the team "${team.name}", as ${team.role}.`;
    } finally {
      await call('/v1/auth/logout', { refresh_token: session.refresh_token });
    }
  },

  claim: async (call, token, { email, password, name }) => {
    const details = name ? { email, password, name } : { email, password };
    const session = await call('/v1/auth/claim', { code: token, ...details, refresh_token_in: 'body' });
    if (session.refresh_token) await call('/v1/auth/logout', { refresh_token: session.refresh_token });
    return `${email} is administrator of this platform. Log in with: aviary login --email ${email}`;
  },
};

function completeLogIn(call, challenge, code) {
  if (!code) throw new Error('Your account has a second factor: fill in its code as well.');
  return call('/v1/auth/second-factor', { challenge, code, refresh_token_in: 'body' });
}
