// The log-in of this page: a token in the page's own storage. Pages of other origins, such as those
// on other ports of this host, can't read it.

const base = new URL("..", import.meta.url).pathname; // "/" or "/admin/"
const KEY = `login:${base}`;
const BACK = `back:${base}`;
const home = base === "/" ? "/" : base.slice(0, -1);

export const token = () => localStorage.getItem(KEY);

export function begin(session) {
  localStorage.setItem(KEY, session);
  const back = sessionStorage.getItem(BACK);
  sessionStorage.removeItem(BACK);
  location.replace(back || home);
}

// Show the log-in form; after the log-in, the page comes back.
export function leave() {
  localStorage.removeItem(KEY);
  sessionStorage.setItem(BACK, location.pathname + location.search + location.hash);
  location.replace(`${base}login`);
}

// Ask the service; returns its response, and shows the log-in form if there is no log-in.
export async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: {
      authorization: `Bearer ${token()}`,
      ...(body ? {"content-type": "application/json"} : {}),
    },
    body: body && JSON.stringify(body),
  });
  if (response.ok) return response;
  if (response.status === 401) {
    leave();
    return new Promise(() => {}); // the page is going
  }
  throw new Error(await reason(response));
}

export async function reason(response) {
  const {error} = await response.json().catch(() => ({error: {message: `answered ${response.status}`}}));
  return [error.message, error.remedy].filter(Boolean).join(" — ");
}

export const logins = `${base}api/logins`;

export async function logOut() {
  await fetch(`${base}logout`, {method: "POST", headers: {authorization: `Bearer ${token()}`}});
  sessionStorage.removeItem(BACK);
  localStorage.removeItem(KEY);
  location.replace(`${base}login`);
}

// Pages that need a log-in call this first.
export function ensureLogin() {
  if (!token()) leave();
  // Logged out in another tab.
  addEventListener("storage", (event) => event.key === KEY && !event.newValue && leave());
}
