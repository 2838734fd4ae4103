// The admin page: polls and shows /admin/dashboard, and handles the buttons.

import { call, ensureLogin, logOut, token } from "/admin/login/session.js";

const EVERY_MS = 3000;
const $ = id => document.getElementById(id);
const busy = new Map();   // handle -> operation in progress
const wrong = new Map();  // handle -> last error

function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// --- human-readable figures --------------------------------------------------------------------

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit++; }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${UNITS[unit]}`;
}
function money(usd) {
  return usd === null ? "–" : `$${usd.toFixed(usd !== 0 && usd < 1 ? 4 : 2)}`;
}

function condition(container) {
  const {phase, state, wanted, health} = container;
  if (phase === "making") return ["being made", "warn"];
  if (phase === "removing") return ["being removed", "warn"];
  if (state === "unknown") return ["unknown", "warn"];
  if (state === "running" && health === "unhealthy") return ["unhealthy", "bad"];
  if (state === "running") return ["running", "good"];
  if (state === "paused") return ["paused", "warn"];
  if (wanted) return [container.oom_killed ? "out of memory" : `down: ${state}`, "bad"];
  return [state === "exited" ? "stopped" : state, ""];
}

// --- the page ------------------------------------------------------------------------------------

function meter(name, text, share) {
  const fill = el("div", share > 0.9 ? "fill high" : "fill");
  fill.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
  const track = el("div", "track", fill);
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", `${name}: ${text}`);
  return el("div", "meter", el("div", "label", el("span", "", name), el("span", "", text)), track);
}

function button(text, act, className = "") {
  const node = el("button", className, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function row(container) {
  const {handle} = container;
  const [word, tone] = condition(container);
  const node = el("li", busy.has(handle) ? "container busy" : "container");
  node.dataset.handle = handle;
  const about = [container.image, container.provisioned ? "" : "adopted"].filter(Boolean).join(" · ");
  node.append(el("div", "name", el("b", "", handle),
    el("span", `state ${tone}`, busy.get(handle) || word), el("small", "", about)));

  const cpu = container.cpu_percent, memory = container.memory_bytes;
  const limit = container.memory_limit_bytes;
  const runs = container.state === "running" || container.state === "paused";
  node.append(runs && cpu !== null ? meter("CPU", `${cpu.toFixed(1)} %`, cpu / 100) : meter("CPU", "–", 0));
  node.append(runs && memory !== null
    ? meter("Memory", size(memory) + (limit ? ` of ${size(limit)}` : ""), limit ? memory / limit : 0)
    : meter("Memory", "–", 0));
  const counts = [];
  if (container.restarts) counts.push(`${container.restarts} restart${container.restarts > 1 ? "s" : ""}`);
  if (container.oom_kills) counts.push(`${container.oom_kills} OOM kill${container.oom_kills > 1 ? "s" : ""}`);
  node.append(el("div", "money", `${money(container.cost_today_usd)} today`, el("small", "", counts.join(", "))));

  const actions = el("div", "actions");
  const base = `/api/containers/${encodeURIComponent(handle)}`;
  actions.append(
    runs ? button("Stop", () => act(handle, "stopping", "POST", `${base}/stop`))
         : button("Start", () => act(handle, "starting", "POST", `${base}/start`)),
    button("Logs", () => showLogs(handle, base)),
    button("Remove", async () => {
      if (await sure(`Remove ${handle}?`, "Its container and its key are gone for good.", "Remove"))
        act(handle, "removing", "DELETE", base);
    }, "danger"),
  );
  const idle = container.phase === "made" && container.state !== "unknown" && !busy.has(handle);
  for (const each of actions.children) each.disabled = !idle;
  node.append(actions);
  if (wrong.has(handle)) node.append(el("p", "wrong", wrong.get(handle)));
  return node;
}

function notice(alert) {
  const node = el("div", `notice ${alert.severity}`, el("b", "", alert.severity), alert.summary);
  const more = el("small", "");
  if (alert.description) more.append(`${alert.description} `);
  for (const [name, url] of Object.entries(alert.links || {})) {
    if (!url || name === "source") continue;
    const link = el("a", "", name);
    link.href = url;
    link.target = "_blank";
    link.rel = "noopener";
    more.append(link);
  }
  node.append(more);
  return node;
}

let shown = "";
function show(board) {
  const state = JSON.stringify([board, [...busy], [...wrong]]);
  if (state === shown) return;  // don't move anything without a change
  shown = state;
  const {containers, alerts, problems} = board;
  $("grafana").href = board.grafanaUrl;
  $("running").textContent = containers.filter(c => c.state === "running").length;
  const down = containers.filter(c => c.up === false).length;
  $("down").textContent = down;
  $("down").parentElement.classList.toggle("bad", down > 0);
  $("cost").textContent = money(board.costTodayUsd);
  $("firing").textContent = problems.alerts ? "–" : alerts.length;
  $("firing").parentElement.classList.toggle("bad", alerts.length > 0);
  $("problems").replaceChildren(...Object.values(problems).filter(Boolean)
    .map(text => el("div", "notice", text)));
  $("alerts").replaceChildren(...alerts.map(notice));
  const focused = document.activeElement?.closest?.("[data-handle]")?.dataset.handle;
  const label = document.activeElement?.textContent;
  $("containers").replaceChildren(...containers.map(row));
  if (focused) {  // keep the keyboard focus
    const again = [...document.querySelectorAll("[data-handle]")].find(n => n.dataset.handle === focused);
    [...again?.querySelectorAll("button") ?? []].find(b => b.textContent === label)?.focus();
  }
  $("none").hidden = containers.length > 0;
}

let last = null;
let asking = 0;  // refreshes without an answer yet
async function refresh() {
  asking++;
  try {
    last = await (await call("GET", "/admin/dashboard")).json();
  } catch (error) {
    last = last || {containers: [], alerts: [], grafanaUrl: "", costTodayUsd: null, problems: {}};
    last = {...last, problems: {platform: `The platform doesn't answer: ${error.message}`}};
  }
  asking--;
  show(last);
}

async function act(handle, word, method, path) {
  busy.set(handle, word);
  wrong.delete(handle);
  show(last);
  try {
    await call(method, path);
  } catch (error) {
    wrong.set(handle, error.message);
  }
  busy.delete(handle);
  await refresh();
}

// --- dialogs -------------------------------------------------------------------------------------

function sure(title, text, yes) {
  $("sure-title").textContent = title;
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  $("sure").returnValue = "";
  $("sure").showModal();
  return new Promise(resolve => $("sure").addEventListener(
    "close", () => resolve($("sure").returnValue === "yes"), {once: true}));
}

async function showLogs(handle, base) {
  $("logs-title").textContent = `Logs of ${handle}`;
  $("lines").textContent = "…";
  $("logs").showModal();
  try {
    const text = await (await call("GET", `${base}/logs?tail=500`)).text();
    $("lines").textContent = text || "It has printed nothing.";
  } catch (error) {
    $("lines").textContent = error.message;
  }
  $("lines").scrollTop = $("lines").scrollHeight;
}

$("provision").addEventListener("click", () => {
  $("new-wrong").hidden = true;
  $("new").showModal();
});
$("new-cancel").addEventListener("click", () => $("new").close());
$("new-form").addEventListener("submit", async event => {
  event.preventDefault();
  const given = Object.fromEntries(new FormData(event.target));
  const body = {handle: given.handle, image: given.image};
  // The whole command, run by a shell.
  if (given.command.trim()) body.command = ["sh", "-c", given.command];
  if (given.memory) body.memory_limit_bytes = Math.round(Number(given.memory) * 1048576);
  if (given.cpus) body.cpus = Number(given.cpus);
  $("new-go").disabled = true;
  $("new-wrong").hidden = true;
  try {
    await call("POST", "/api/containers", body);
    $("new").close();
    event.target.reset();
  } catch (error) {
    $("new-wrong").textContent = error.message;
    $("new-wrong").hidden = false;
  }
  $("new-go").disabled = false;
  refresh();
});

// Wait for an answer before asking again.
function look() { if (token() && !document.hidden && !asking) refresh(); }
setInterval(look, EVERY_MS);
document.addEventListener("visibilitychange", look);
$("logout").addEventListener("click", logOut);
ensureLogin();
look();
