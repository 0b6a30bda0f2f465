// What makes pages live. Every page works without it; nothing here builds markup from text.
"use strict";

const root = document.documentElement;
root.classList.add("scripted");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/* ---- colours ------------------------------------------------------------------------------- */

const THEMES = { auto: "as the system", light: "light", dark: "dark" };

function showTheme() {
  for (const name of all("[data-theme-name]")) name.textContent = THEMES[root.dataset.theme];
}

function switchTheme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
  root.dataset.theme = next;
  document.cookie = `theme=${next}; path=/; max-age=31536000; samesite=strict`;
  showTheme();
  document.dispatchEvent(new Event("agorai:redraw"));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.dispatchEvent(new Event("agorai:redraw")),
);

/* ---- times --------------------------------------------------------------------------------- */

// As formatting.relative writes them.
function relative(seconds) {
  const distance = seconds - Date.now() / 1000;
  const size = Math.abs(distance);
  if (seconds >= 2 ** 39) return "never";
  if (size < 1) return "now";
  const [worth, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([least]) => size >= least);
  const text = `${Math.floor(size / worth)} ${unit}`;
  return distance > 0 ? `in ${text}` : `${text} ago`;
}

function tick() {
  for (const time of all("[data-relative]")) {
    const text = relative(Number(time.dataset.relative));
    if (time.textContent !== text) time.textContent = text;
  }
}

/* ---- buttons ------------------------------------------------------------------------------- */

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    return; // the browser does not allow it here; the whole text is in the title beside
  }
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1200);
}

function unfold(button) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  document.getElementById("side").classList.toggle("unfolded", open);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches("[data-copy]")) copy(button);
  if (button?.matches("[data-theme-switch]")) switchTheme();
  if (button?.matches("[data-menu]")) unfold(button);
});

/* ---- refreshing: only parts that say so, and only where they differ -------------------------- */

const LEAST_MS = 250; // between two refreshes
const main = document.getElementById("content");
const wanted = new Set(main.dataset.live.split(/\s+/).filter(Boolean));
let refreshing = false;
let dueBlock = -1; // of the newest change that the page is to show
let nextRefresh = 0;
let timer = null;

function wants(change) {
  if (wanted.has("*")) return true;
  const related = [[change.contract, change.key], ...change.related];
  return (
    related.some(([contract, key]) => wanted.has(`${contract}:${key}`) || wanted.has(`${contract}:*`)) ||
    JSON.stringify(change.args).split('"').some((text) => wanted.has(`account:${text}`))
  );
}

function refreshSoon(block = -1) {
  if (!document.querySelector("[data-live-part]") && !document.querySelector(".fault")) return;
  dueBlock = Math.max(dueBlock, block);
  if (refreshing || timer !== null || document.hidden) return;
  timer = setTimeout(refresh, Math.max(0, nextRefresh - Date.now()));
}

async function refresh() {
  timer = null;
  refreshing = true;
  const began = Date.now();
  const asked = dueBlock;
  let shown = -1;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected) location.reload(); // to sign in again
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    shown = Number(fresh.getElementById("content")?.dataset.block ?? -1);
    if (answer.ok && document.querySelector(".fault")) location.reload();
    else if (answer.ok) replaceParts(fresh);
  } catch {
    // The connection is lost, which the event source tells, too.
  }
  refreshing = false;
  nextRefresh = Math.max(began + LEAST_MS, 2 * Date.now() - began); // a slow page is asked for less often
  if (dueBlock > asked || (shown >= 0 && shown < asked && Date.now() - changedAt < 10_000)) refreshSoon();
}

function replaceParts(fresh) {
  for (const part of all("[data-live-part]")) {
    const next = fresh.getElementById(part.id);
    if (next === null || skeleton(next) === skeleton(part)) continue;
    const focused = part.contains(document.activeElement) ? place(document.activeElement, part) : null;
    const open = all("details", part).map((details) => details.open);
    const known = new Set(all("[data-row]", part).map((row) => row.dataset.row));
    part.replaceChildren(...next.childNodes);
    all("details", part).forEach((details, index) => (details.open = open[index] ?? false));
    for (const row of all("[data-row]", part)) if (!known.has(row.dataset.row)) row.classList.add("fresh");
    if (focused !== null) find(focused, part)?.focus({ preventScroll: true });
    part.dispatchEvent(new Event("agorai:redraw", { bubbles: true }));
  }
  tick();
}

// A part as the server wrote it: without what this script and the chart library have put into it.
function skeleton(part) {
  const bare = part.cloneNode(true);
  for (const time of all("[data-relative]", bare)) time.textContent = "";
  for (const details of all("details", bare)) details.removeAttribute("open");
  for (const row of all(".fresh", bare)) row.classList.remove("fresh");
  for (const row of all("[class='']", bare)) row.removeAttribute("class");
  for (const box of all(".canvas", bare)) box.replaceChildren();
  return bare.innerHTML;
}

const FOCUSABLE = "a, button, summary, input, select";

function place(element, part) {
  return { text: element.textContent, href: element.getAttribute("href"), index: all(FOCUSABLE, part).indexOf(element) };
}

function find(was, part) {
  const candidates = all(FOCUSABLE, part);
  const same = (one) => one.textContent === was.text && one.getAttribute("href") === was.href;
  return candidates.find(same) ?? candidates[was.index];
}

/* ---- the tail: events as soon as they are in a block ------------------------------------------ */

const tail = document.querySelector("[data-tail]");
const PHASES = { head: ["seen", "wait"], final: ["final", "good"], retracted: ["retracted", "bad"] };

function tell(change) {
  if (tail === null || !passes(change)) return;
  const id = `${change.transaction_hash}-${change.log_index}`;
  let row = all("tr", tail).find((one) => one.dataset.row === id);
  if (row === undefined && change.phase === "retracted") return;
  if (row === undefined) {
    row = newRow(id, change);
    tail.prepend(row);
    while (tail.rows.length > Number(tail.dataset.tail)) tail.lastElementChild.remove();
  }
  const [word, tone] = PHASES[change.phase];
  const badge = document.createElement("span");
  badge.className = `badge ${tone}`;
  badge.textContent = word;
  row.querySelector("[data-phase]").replaceChildren(badge);
  row.classList.toggle("retracted", change.phase === "retracted");
  if (change.phase === "final") row.querySelector("a").href = `/events/${id}`;
}

function newRow(id, change) {
  const row = document.getElementById("tail-row").content.firstElementChild.cloneNode(true);
  row.dataset.row = id;
  row.classList.add("fresh");
  row.querySelector("a").textContent = `${change.contract}.${change.event}`;
  row.querySelector("[data-name=about]").textContent = change.key === "-" ? "" : shortened(change.key);
  row.querySelector("[data-name=block]").textContent = change.block.toLocaleString("en-GB");
  const time = row.querySelector("time");
  time.dataset.relative = change.time;
  time.title = new Date(change.time * 1000).toUTCString();
  time.textContent = relative(change.time);
  return row;
}

function shortened(text) {
  return text.length <= 13 ? text : `${text.slice(0, 6)}…${text.slice(-4)}`;
}

// The filters in the page's own address, which the server has applied to what it sent.
function passes(change) {
  const asked = new URLSearchParams(location.search);
  const fits = (name) => !asked.get(name) || asked.get(name) === change[name];
  const account = asked.get("account")?.toLowerCase();
  return (
    fits("contract") && fits("event") && fits("key") &&
    (!account || JSON.stringify(change.args).toLowerCase().includes(account)) &&
    change.block >= Number(asked.get("from_block") ?? 0)
  );
}

/* ---- the connection --------------------------------------------------------------------------- */

let source = null;
let wasLost = false;
let changedAt = 0;

function setLink(state, words) {
  for (const link of all("[data-link-state]")) {
    link.className = `link-state ${state}`;
    link.textContent = words;
  }
  for (const banner of all("[data-lost]")) banner.hidden = state !== "lost";
}

function connect() {
  source = new EventSource("/live");
  source.onopen = () => {
    setLink("open", "Live");
    if (wasLost) refreshSoon();
    wasLost = false;
  };
  source.onerror = () => {
    wasLost = true;
    setLink("lost", "Connection lost");
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    setTimeout(connect, 3000);
  };
  source.addEventListener("change", (message) => {
    const change = JSON.parse(message.data);
    changedAt = Date.now();
    if (tail === null && change.phase === "final" && passes(change)) {
      if (document.querySelector("[data-until-event]")) location.reload(); // there is a table from now on
    }
    tell(change);
    if (change.phase === "final" && wants(change)) refreshSoon(change.block);
  });
  source.addEventListener("step", (message) => {
    const { contract, key } = JSON.parse(message.data);
    if (["*", "step", `${contract}:${key}`].some((one) => wanted.has(one))) refreshSoon();
  });
  source.addEventListener("health", () => wanted.has("health") && refreshSoon());
  source.addEventListener("reload", () => (tail === null ? refreshSoon() : location.reload()));
}

showTheme();
tick();
setInterval(tick, 1000);
setLink("", "Connecting …");
connect();
document.addEventListener("visibilitychange", () => !document.hidden && refreshSoon());
