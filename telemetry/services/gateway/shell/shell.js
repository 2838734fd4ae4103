// The web shell: one WebSocket, messages and alerts. No library, nothing but text is ever put
// into the page, so what a model or a log line says can't run.

const $ = (id) => document.getElementById(id);
const chat = $("chat"), alerts = $("alerts"), text = $("text"), state = $("state");
const empty = $("empty");
const running = new Map(); // message id -> its element
const shown = new Map(); // alert fingerprint -> its element
let session = localStorage.getItem("session") || newSession();
let socket, wait = 500;

function newSession() {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
  localStorage.setItem("session", id);
  return id;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = (socket = new WebSocket(`${scheme}://${location.host}/ws?session=${session}`));
  mine.onopen = () => { wait = 500; setState("connected", false); };
  mine.onmessage = (event) => take(JSON.parse(event.data));
  mine.onclose = (event) => {
    if (mine !== socket) return; // a new chat has its own
    if (event.code === 4401) { location.reload(); return; }
    setState("reconnecting", true);
    // The time doubles, with some chance in it, so that shells don't all come at once.
    setTimeout(connect, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, 10000);
  };
}

function setState(what, away) {
  state.textContent = what;
  state.classList.toggle("away", away);
  $("send").disabled = away;
}

function take(event) {
  if (event.type === "history") showHistory(event.entries);
  else if (event.type === "alerts") showAlerts(event.alerts);
  else if (event.type === "alert") showAlert(event.alert);
  else if (event.type === "resume") begin(event.id, event.text);
  else if (running.has(event.id)) progress(running.get(event.id), event);
  atEnd();
}

function progress(message, event) {
  if (event.type === "delta") {
    message.raw += event.text;
    render(message.querySelector(".text"), message.raw);
  } else if (event.type === "tool") {
    const tools = message.querySelector(".tools");
    tools.append(element("span", "", event.name));
  } else if (event.type === "done") {
    running.delete(event.id);
    finish(message, event);
  }
  $("stop").hidden = running.size === 0;
}

function finish(message, facts) {
  message.classList.remove("running");
  if (facts.error) message.append(element("div", "error", facts.error));
  else if (facts.status === "cancelled") message.append(element("div", "error", "Stopped."));
  if (facts.costUsd === undefined) return;
  const parts = [`$${plain(facts.costUsd)}`, `${facts.tokensIn} tokens in, ${facts.tokensOut} out`];
  if (facts.durationMs !== undefined) parts.push(`${(facts.durationMs / 1000).toFixed(1)} s`);
  const line = element("div", "facts", parts.join(" · "));
  if (facts.traceId) line.title = `trace ${facts.traceId}`;
  message.append(line);
}

function plain(cost) {
  const text = String(cost);
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

function showHistory(entries) {
  chat.querySelectorAll(".message").forEach((m) => m.remove());
  running.clear();
  for (const entry of entries) {
    const message = add(entry.role, entry.text);
    if (entry.role === "assistant") finish(message, entry);
  }
  empty.hidden = entries.length > 0;
  $("stop").hidden = true;
}

function begin(id, prompt) {
  add("user", prompt);
  const message = add("assistant", "");
  message.classList.add("running");
  running.set(id, message);
  empty.hidden = true;
  $("stop").hidden = false;
}

function add(role, content) {
  const message = element("div", `message ${role}`);
  message.raw = content;
  if (role === "assistant") message.append(element("div", "tools"));
  const body = element("div", "text");
  render(body, content);
  message.append(body);
  chat.append(message);
  return message;
}

// Text, with ``` blocks and `code` set apart. Everything goes in as text.
function render(target, content) {
  target.replaceChildren();
  content.split(/```(?:\w*\n)?/).forEach((part, index) => {
    if (index % 2) { target.append(element("pre", "", part.replace(/\n$/, ""))); return; }
    part.split("`").forEach((piece, i) => target.append(i % 2 ? element("code", "", piece) : piece));
  });
}

function showAlerts(list) {
  alerts.replaceChildren();
  shown.clear();
  list.forEach(showAlert);
}

function showAlert(alert) {
  const old = shown.get(alert.fingerprint);
  const box = element("article", `alert ${alert.severity} ${alert.status}`);
  const resolved = alert.status === "resolved";
  box.append(
    element("span", "severity", resolved ? "resolved" : alert.severity),
    element("span", "summary", alert.summary),
    element("time", "", clock(resolved ? alert.endsAt : alert.startsAt)),
  );
  const more = element("div", "more", [alert.description, alert.value].filter(Boolean).join(" · "));
  if (more.textContent) more.append(document.createElement("br"));
  for (const [name, label] of [["dashboard", "Dashboard"], ["runbook", "Runbook"], ["source", "Source"]]) {
    if (!alert.links[name]) continue;
    const link = element("a", "", label);
    link.href = alert.links[name];
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    more.append(link);
  }
  box.append(more);
  box.dataset.name = alert.name;
  if (old) old.replaceWith(box); else alerts.prepend(box);
  shown.set(alert.fingerprint, box);
  if (resolved) setTimeout(() => { box.remove(); if (shown.get(alert.fingerprint) === box) shown.delete(alert.fingerprint); }, 30000);
}

function clock(at) {
  const date = new Date(at);
  return isNaN(date) ? "" : date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function element(tag, cls, content) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (content) made.textContent = content;
  return made;
}

function atEnd() {
  chat.scrollTop = chat.scrollHeight;
}

function send(content) {
  if (!content.trim() || socket.readyState !== WebSocket.OPEN) return;
  const id = crypto.getRandomValues(new Uint32Array(2)).join("");
  begin(id, content);
  socket.send(JSON.stringify({ type: "message", id, text: content }));
  atEnd();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  send(text.value);
  text.value = "";
  text.style.height = "";
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
text.addEventListener("input", () => {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
});
$("stop").addEventListener("click", () => socket.send(JSON.stringify({ type: "cancel" })));
$("new").addEventListener("click", () => {
  session = newSession();
  const old = socket;
  connect();
  old.close();
});
empty.querySelectorAll("button").forEach((b) => b.addEventListener("click", () => send(b.textContent)));

connect();
