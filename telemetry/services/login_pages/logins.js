// The page of all log-ins, which can end them.

import { call, ensureLogin, logins, logOut } from "./session.js";

const list = document.getElementById("logins");
const others = document.getElementById("others");
const wrong = document.getElementById("wrong");

function element(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
}

const time = (text) => new Date(text).toLocaleString([], {dateStyle: "medium", timeStyle: "short"});

function row({id, address, created, used, current}) {
  const button = element("button", "Log out");
  button.type = "button";
  button.addEventListener("click", () => (current ? logOut() : end(`${logins}/${id}`)));
  const name = element("b", current ? "This one" : `From ${address || "this machine"}`);
  const about = `${current ? `from ${address}, ` : ""}logged in ${time(created)}, last used ${time(used)}`;
  return element("li", element("div", name, element("small", about)), button);
}

async function end(path) {
  await tried(() => call("DELETE", path));
  await show();
}

async function show() {
  await tried(async () => {
    const found = (await (await call("GET", logins)).json()).logins;
    found.sort((a, b) => b.current - a.current);
    list.replaceChildren(...found.map(row));
    others.hidden = found.length < 2;
  });
}

async function tried(work) {
  wrong.hidden = true;
  try {
    await work();
  } catch (error) {
    wrong.textContent = error.message;
    wrong.hidden = false;
  }
}

others.addEventListener("click", () => end(logins));
ensureLogin();
show();
