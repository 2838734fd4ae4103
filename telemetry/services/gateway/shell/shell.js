// The web shell: one WebSocket for the questions and answers of one session, and for alerts.

import { $, button, element } from "./dom.js";
import * as alerts from "./alerts.js";
import { Turn } from "./turn.js";
import { ensureLogin, leave, logOut, token } from "/login/session.js";

const NOT_LOGGED_IN = 4401;
const chat = $("chat"), text = $("text");
const turns = new Map(); // id -> Turn
const unsent = new Map(); // id -> text, until the gateway confirms it
let session = localStorage.getItem("session") || newSession();
const before = new Map(); // id -> Turn, of running answers, while the gateway sends its history
let socket, ready = false, wait = 500;

// --- the connection ----------------------------------------------------------------------------

function connect() {
  ready = false; // true once the gateway has sent all it has of the session
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = (socket = new WebSocket(`${scheme}://${location.host}/ws?session=${session}`, ["telemetry", token()]));
  mine.onmessage = (event) => mine === socket && take(JSON.parse(event.data));
  mine.onclose = (event) => {
    if (mine !== socket) return; // another session has another socket
    if (event.code === NOT_LOGGED_IN) { leave(); return; }
    setReady(false);
    // The delay doubles, with a random part, so that shells don't all reconnect at the same time.
    setTimeout(() => mine === socket && connect(), wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 10000);
  };
}

function setReady(is) {
  ready = is;
  $("state").textContent = is ? "connected" : "reconnecting";
  $("state").classList.toggle("away", !is);
  $("stop").disabled = !is;
}

function take(event) {
  const atEnd = isAtEnd();
  if (event.type === "history") showHistory(event.turns);
  else if (event.type === "ready") begun();
  else if (event.type === "sessions") showSessions(event.sessions);
  else if (event.type === "alerts") alerts.showAll(event.alerts);
  else if (event.type === "alert") alerts.show(event.alert);
  else if (event.type === "begin") {
    unsent.delete(event.id);
    (turns.get(event.id) ?? add(event.id, event.text)).begin();
  } else {
    unsent.delete(event.id);
    turns.get(event.id)?.take(event);
  }
  changed(atEnd);
}

function showHistory(list) {
  // Turns of a connection that was lost before "ready" are still in `before`.
  for (const [id, turn] of turns) if (turn.running) before.set(id, turn);
  clear();
  for (const turn of list) {
    unsent.delete(turn.id);
    place(Turn.finished(turn, acts));
  }
}

// The page has all that the gateway has. Other messages never reached it, or were lost.
function begun() {
  wait = 500;
  setReady(true);
  // Typed since the history arrived.
  for (const [id, prompt] of unsent) if (turns.has(id) && !before.has(id)) post(id, prompt);
  for (const [id, { prompt }] of before) {
    if (turns.has(id)) continue;
    const turn = add(id, prompt);
    if (unsent.has(id)) post(id, prompt);
    else turn.take({ type: "done", status: "error", error: "The gateway was restarted before this was answered." });
  }
  before.clear();
}

// --- questions and answers ---------------------------------------------------------------------

const acts = { again: ask, moved: () => changed(isAtEnd()) };

function ask(prompt) {
  if (!prompt.trim()) return;
  const id = random(12);
  const turn = add(id, prompt);
  unsent.set(id, prompt);
  if (ready) post(id, prompt);
  else turn.waiting("sent as soon as the gateway is back");
  changed(true);
}

function post(id, prompt) {
  socket.send(JSON.stringify({ type: "message", id, text: prompt }));
}

function add(id, prompt) {
  return place(new Turn(id, prompt, acts));
}

function place(turn) {
  turns.set(turn.id, turn);
  chat.append(turn.node);
  return turn;
}

function clear() {
  turns.forEach((turn) => turn.node.remove());
  turns.clear();
}

function changed(toEnd) {
  $("empty").hidden = turns.size > 0;
  const running = [...turns.values()].some((turn) => turn.running);
  $("stop").hidden = !running;
  chat.setAttribute("aria-busy", running);
  if (toEnd) chat.scrollTop = chat.scrollHeight;
}

// Don't scroll if the user has scrolled up to read.
function isAtEnd() {
  return chat.scrollHeight - chat.scrollTop - chat.clientHeight < 80;
}

// --- sessions ----------------------------------------------------------------------------------

function newSession() {
  const id = random(12);
  localStorage.setItem("session", id);
  return id;
}

function random(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function open(id) {
  session = id;
  localStorage.setItem("session", id);
  const old = socket;
  clear();
  unsent.clear();
  before.clear();
  connect();
  old.close();
  $("menu").setAttribute("aria-expanded", false);
  document.querySelectorAll("#sessions [aria-current]").forEach((b) => b.removeAttribute("aria-current"));
  changed(false);
  text.focus();
}

function showSessions(list) {
  $("sessions").replaceChildren(...list.map(({ id, title, at }) => {
    const made = button("session", "", () => open(id));
    made.append(element("span", "title", title), element("time", "", ago(new Date(at))));
    if (id === session) made.setAttribute("aria-current", "true");
    return element("li", "", made);
  }));
}

function ago(date) {
  const minutes = Math.max(0, (Date.now() - date) / 60000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${Math.floor(minutes)} min`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h`;
  return date.toLocaleDateString([], { day: "numeric", month: "short" });
}

// --- the form ----------------------------------------------------------------------------------

function fit() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

function stop() {
  if (ready && !$("stop").hidden) socket.send(JSON.stringify({ type: "cancel" }));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(text.value);
  text.value = "";
  fit();
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  } else if (event.key === "ArrowUp" && !text.value && turns.size) {
    event.preventDefault();
    text.value = [...turns.values()].at(-1).prompt;
    fit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if ($("menu").getAttribute("aria-expanded") === "true") $("menu").click();
  else stop();
});
text.addEventListener("input", fit);
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", () => open(newSession()));
$("menu").addEventListener("click", () => {
  $("menu").setAttribute("aria-expanded", $("menu").getAttribute("aria-expanded") !== "true");
});
$("shade").addEventListener("click", () => $("menu").click());
$("empty").querySelectorAll("button").forEach((b) => b.addEventListener("click", () => ask(b.textContent)));

// After a machine has slept, a dead connection looks open.
addEventListener("online", () => socket?.close());

$("logout").addEventListener("click", logOut);
ensureLogin();
if (token()) connect();
