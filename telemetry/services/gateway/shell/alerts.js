// Alert notices: firing alerts, and resolved ones for a while.

import { $, button, element, link } from "./dom.js";

const RESOLVED_MS = 60000;
const LINKS = [["dashboard", "Dashboard"], ["runbook", "Runbook"], ["source", "Source"]];
const ICON = (colour) =>
  `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='%23${colour}'/%3E%3C/svg%3E`;

const shown = new Map(); // fingerprint -> {alert, box}

export function showAll(alerts) {
  const firing = new Set(alerts.map((alert) => alert.fingerprint));
  for (const [fingerprint, { alert }] of shown) {
    if (!firing.has(fingerprint) && alert.status === "firing") remove(fingerprint);
  }
  // The newest comes first in the list; each new one goes on top.
  for (const alert of [...alerts].reverse()) show(alert);
  count();
}

export function show(alert) {
  const resolved = alert.status === "resolved";
  const old = shown.get(alert.fingerprint);
  const box = element("article", `alert ${alert.severity} ${alert.status}`);
  box.dataset.name = alert.name;
  const more = element("div", "more");
  more.append([alert.description, alert.value && `value ${alert.value}`].filter(Boolean).join(" · "));
  for (const [name, label] of LINKS) {
    if (alert.links[name]) more.append(" ", link(alert.links[name], label));
  }
  const hide = button("hide", "×", () => remove(alert.fingerprint));
  hide.setAttribute("aria-label", `Hide: ${alert.summary}`);
  box.append(
    element("span", "severity", resolved ? "resolved" : alert.severity),
    element("span", "summary", alert.summary),
    time(resolved ? alert.endsAt : alert.startsAt, resolved ? "" : "since "),
    hide,
    more,
  );
  if (old) old.box.replaceWith(box);
  else place(box, alert);
  shown.set(alert.fingerprint, { alert, box });
  if (resolved) setTimeout(() => shown.get(alert.fingerprint)?.box === box && remove(alert.fingerprint), RESOLVED_MS);
  count();
}

// Criticals first, each kind with the newest on top.
function place(box, { severity }) {
  const first = severity === "critical" ? null : [...$("alerts").children].find((b) => !b.classList.contains("critical"));
  if (severity === "critical") $("alerts").prepend(box);
  else $("alerts").insertBefore(box, first ?? null);
}

function remove(fingerprint) {
  shown.get(fingerprint)?.box.remove();
  shown.delete(fingerprint);
  count();
}

function count() {
  const firing = [...shown.values()].filter(({ alert }) => alert.status === "firing");
  document.title = firing.length ? `(${firing.length}) telemetry` : "telemetry";
  const critical = firing.some(({ alert }) => alert.severity === "critical");
  $("icon").href = ICON(critical ? "d33" : firing.length ? "d90" : "2a6");
}

function time(at, before) {
  const date = new Date(at);
  if (isNaN(date)) return "";
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString()} `;
  const made = element("time", "", `${before}${day}${date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`);
  made.dateTime = at;
  made.title = date.toLocaleString();
  return made;
}
