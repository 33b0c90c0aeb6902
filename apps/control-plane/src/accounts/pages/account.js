import { actions } from './account-actions.js';

const page = location.pathname.split('/').pop();
const token = location.hash.slice(1);
const form = document.getElementById(page);
const message = document.getElementById('message');

// The token stays in this page alone, and leaves no trace in the history.
history.replaceState(null, '', location.pathname);

async function call(path, body, accessToken) {
  const response = await fetch(path, {
    method: 'POST',
    credentials: 'omit',
    signal: AbortSignal.timeout(30_000),
    headers: {
      'content-type': 'application/json',
      ...(accessToken ? { authorization: `Bearer ${accessToken}` } : {}),
    },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  const answer = text ? JSON.parse(text) : {};
  if (!response.ok) throw new Error(answer.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}

function tell(text) {
  message.textContent = text;
}

if (!token) {
  tell('This page is opened by a link that holds a token; open the link as it is.');
} else {
  form.hidden = false;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    const button = form.querySelector('button');
    button.disabled = true;
    tell('One moment …');
    actions[page](call, token, fields)
      .then((text) => {
        form.hidden = true;
        tell(text);
      })
      .catch((error) => tell(error.message))
      .finally(() => {
        button.disabled = false;
      });
  });
}
