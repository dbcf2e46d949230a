// The page: its state, when it asks, and the frame around the panels. What fails leaves the last figures standing.
import { act, figures, Refused } from "./api.js";
import { Board } from "./board.js";
import { html, render } from "./html.js";
import { ago, moment, speak, spoken, word } from "./language.js";
import { Confirm } from "./panels/actions.js";
import { About, Enter } from "./panels/about.js";
import { inWords, titleOf, Verdict } from "./panels/verdict.js";
import { Nav, viewNow, viewOf } from "./views.js";

const EVERY_S = 30, LONGEST_S = 300, ACTIVITY_EVERY_S = 300, HISTORY_EVERY_S = 900;

const state = {
  token: saved(sessionStorage, "token"), why: null, trouble: null, failed: 0,
  data: null, activity: null, activityAt: 0, activityTrouble: null,
  range: "24h", by: "outcome", history: null, historyAt: 0, historyTrouble: null,
  asked: null, done: "",
};
let timer = 0, asking = false;

function saved(store, name) { try { return store.getItem(name); } catch { return null; } }
function save(store, name, value) {
  try { value === null ? store.removeItem(name) : store.setItem(name, value); } catch { /* a private window keeps nothing */ }
}
function set(patch) {
  Object.assign(state, patch);
  show();
}

// ------------------------------------------------------------ ask

const wait = () => (state.failed ? Math.min(LONGEST_S, EVERY_S * 2 ** (state.failed - 1)) : EVERY_S);
const worded = (error) => (error instanceof TypeError || error.name === "TimeoutError" ? word("offline")
  : /^status \d+$/.test(error.message) ? word("server", { status: error.message.slice(7) }) : error.message);

async function refresh() {
  if (!state.token || asking || viewNow()) return;
  asking = true;
  clearTimeout(timer);
  const { token } = state;
  try {
    const data = await figures("/api/overview", token);
    if (state.token !== token) return; // forgotten meanwhile
    Object.assign(state, { data, trouble: null, failed: 0 });
  } catch (error) {
    if (error instanceof Refused) return refused(error);
    Object.assign(state, { trouble: worded(error), failed: state.failed + 1 });
  } finally {
    asking = false;
  }
  show();
  timer = setTimeout(() => { if (!document.hidden) refresh(); }, wait() * 1000);
  await Promise.all([readActivity(), readHistory()]);
}

async function readActivity() {
  if (state.failed || Date.now() - state.activityAt < ACTIVITY_EVERY_S * 1000) return;
  const { token } = state;
  state.activityAt = Date.now();
  try {
    const activity = await figures("/api/activity", token);
    if (state.token === token) set({ activity, activityTrouble: null });
  } catch (error) {
    if (state.token === token) set({ activityTrouble: worded(error), activityAt: 0 });
  }
}

async function readHistory() {
  const { token, range, by } = state;
  if (range === "1h" || range === "24h" || state.failed || Date.now() - state.historyAt < HISTORY_EVERY_S * 1000) return;
  state.historyAt = Date.now();
  const same = () => state.token === token && state.range === range && state.by === by;
  try {
    const history = await figures("/api/history", token, { range, by });
    if (same()) set({ history, historyTrouble: null });
  } catch (error) {
    if (same()) set({ historyTrouble: worded(error), historyAt: 0 });
  }
}

function pick({ range, by }) {
  set({ range, by, history: null, historyAt: 0, historyTrouble: null });
  readHistory();
}

// ------------------------------------------------------------ act

const sure = (text, action) => set({ asked: { text, action }, done: "" });

async function answer(yes) {
  const { asked, token } = state;
  set({ asked: null });
  if (!yes) return;
  try {
    const what = await act(token, asked.action);
    set({ done: word("done", { what }), activityAt: 0 });
    refresh();
  } catch (error) {
    set({ done: word("notDone", { why: worded(error) }) });
  }
}

function enter(token) {
  save(sessionStorage, "token", token);
  set({ token, why: null });
  document.getElementById("main").focus();
  refresh();
}

function leave(why = null) {
  clearTimeout(timer);
  save(sessionStorage, "token", null);
  set({ token: null, why, data: null, activity: null, activityAt: 0, history: null, historyAt: 0, trouble: null, failed: 0, asked: null, done: "" });
  document.getElementById("token").focus();
}

const refused = ({ status }) => leave(status === 401 ? "tokenRefused" : "tokenClosed");

function change() {
  speak(spoken() === "ko" ? "en" : "ko");
  save(localStorage, "language", spoken());
  set({ done: "" });
}

// ------------------------------------------------------------ show

function ageOf({ token, data, trouble }) {
  if (!token) return "";
  return data ? word("fresh", { when: ago(data.at) }) : trouble ? "" : word("loading");
}

function troubleOf({ data, trouble, activityTrouble }) {
  const values = { why: trouble, seconds: wait() };
  if (trouble) return data ? word("stale", { ...values, when: moment(data.at) }) : word("empty", values);
  if (data && data.source !== "redis") return word(data.source, { when: moment(data.at) });
  return activityTrouble ? word("activityFailed", { why: activityTrouble }) : "";
}

function Overview() {
  const { data, trouble } = state, text = troubleOf(state);
  return html`${(data || trouble) && html`<${Verdict} said=${inWords(data)} />`}
    <p class="trouble" role="alert" hidden=${!text}>${text}</p>
    <p class="done" role="status" hidden=${!state.done}>${state.done}</p>
    ${data && html`<${Board} state=${state} pick=${pick} sure=${sure} />`}`;
}

function Page({ view }) {
  const { token, data } = state, other = spoken() === "ko" ? "en" : "ko", overview = token && !view;
  return html`<a class="skip" href="#main" onClick=${skip}>${word("skip")}</a>
    <header><h1>Breakwater</h1><p class="age" id="age">${overview ? ageOf(state) : ""}</p>
      <div class="tools">
        <button type="button" lang=${other} onClick=${change}>${other === "ko" ? "한국어" : "English"}</button>
        ${overview && html`<button type="button" onClick=${refresh}>${word("again")}</button>`}
        ${token && html`<button type="button" onClick=${() => leave()}>${word("leave")}</button>`}
      </div>
      ${token && html`<${Nav} shown=${view} />`}</header>
    <main id="main" tabindex="-1">
      ${!token ? html`<${About} /><${Enter} why=${state.why} enter=${enter} />`
        : view ? html`<${viewOf(view)} key=${view} token=${token} refused=${refused} />` : html`<${Overview} />`}
    </main>
    <footer>${overview && data && html`<p>${word("foot", { commands: data.flush.commands, minutes: data.flush.seconds / 60, seconds: data.freshFor })}</p>`}</footer>
    <${Confirm} asked=${state.asked} answer=${answer} />`;
}

// The hash is the view's.
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function title(view) {
  if (!state.token) return "Breakwater";
  if (view) return `${word(`view ${view}`)} – Breakwater`;
  return state.data || state.trouble ? titleOf(inWords(state.data)) : "Breakwater";
}

function show() {
  const view = viewNow();
  document.documentElement.lang = spoken();
  document.title = title(view);
  render(html`<${Page} view=${view} />`, document.getElementById("page"));
}

// A hidden page asks nothing: nobody looks, and every question costs.
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
addEventListener("hashchange", () => { show(); refresh(); });
setInterval(show, 10_000);

speak(saved(localStorage, "language") ?? (navigator.language.startsWith("ko") ? "ko" : "en"));
show();
refresh();
