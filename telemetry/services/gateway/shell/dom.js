// Create elements with text. No function of the shell accepts HTML.

// Something like a host name or an address, also with the dots and slashes of other alphabets.
const LIKE_ADDRESS = /[\p{L}\p{N}][.\u3002\uff0e\uff61\u2024]\p{L}{2}|(\d+\.){3}\d|:[/\\\u2044\u2215\uff0f]|@/u;

export const $ = (id) => document.getElementById(id);

export function element(tag, cls = "", ...content) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  made.append(...content);
  return made;
}

export function button(cls, label, act) {
  const made = element("button", cls, label);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function link(address, label) {
  const made = element("a", "", label);
  made.href = address;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  return made;
}

// A link in a text that we did not write: its real host is visible, beside the label or in it. A
// label that looks like an address is not shown, since it may be another one.
export function honestLink(address, label) {
  if (!URL.canParse(address)) return [label === address ? address : `${label} (${address})`];
  const url = new URL(address);
  url.username = url.password = ""; // https://good.example@evil.example leads to the latter
  const real = url.href.replace(/\/$/, "");
  const made = link(url.href, LIKE_ADDRESS.test(label) ? real : label);
  made.title = url.href;
  return made.textContent === real ? [made] : [made, " ", element("span", "host", `(${url.host})`)];
}
