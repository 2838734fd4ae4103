// Create elements with text. No function of the shell accepts HTML.

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
