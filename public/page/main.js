// The page: its token, its language, and the frame around the views.
import { isUsers } from "./api.js";
import { html, render } from "./html.js";
import { speak, spoken, word } from "./language.js";
import { About, Enter } from "./panels/about.js";
import { Nav, viewNow, viewOf } from "./views.js";

const state = { token: saved(sessionStorage, "token"), why: null };

function saved(store, name) { try { return store.getItem(name); } catch { return null; } }
function save(store, name, value) {
  try { value === null ? store.removeItem(name) : store.setItem(name, value); } catch { /* a private window keeps nothing */ }
}
function set(patch) {
  Object.assign(state, patch);
  show();
}

function enter(token) {
  save(sessionStorage, "token", token);
  set({ token, why: null });
  document.getElementById("main").focus();
}

function leave(why = null) {
  save(sessionStorage, "token", null);
  set({ token: null, why });
  document.getElementById("token").focus();
}

const refused = ({ status }) => leave(isUsers(state.token) ? "userRefused" : status === 401 ? "tokenRefused" : "tokenClosed");

function change() {
  speak(spoken() === "ko" ? "en" : "ko");
  save(localStorage, "language", spoken());
  show();
}

// The hash is the view's.
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function Page({ view, about }) {
  const { token, why } = state, other = spoken() === "ko" ? "en" : "ko";
  return html`<a class="skip" href="#main" onClick=${skip}>${word("skip")}</a>
    <header><h1>Breakwater</h1>
      <div class="tools">
        <button type="button" lang=${other} onClick=${change}>${other === "ko" ? "한국어" : "English"}</button>
        ${token && html`<button type="button" onClick=${() => leave()}>${word("leave")}</button>`}
      </div>
      ${token && html`<${Nav} token=${token} shown=${view} />`}</header>
    <main id="main" tabindex="-1">
      ${token ? html`<${viewOf(view)} key=${view} token=${token} about=${about} refused=${refused} />` : html`<${About} /><${Enter} why=${why} enter=${enter} />`}
    </main>`;
}

function show() {
  const { view, about } = viewNow(state.token);
  document.documentElement.lang = spoken();
  document.title = state.token && view ? `${word(`view ${view}`)} – Breakwater` : "Breakwater";
  render(html`<${Page} view=${view} about=${about} />`, document.getElementById("page"));
}

addEventListener("hashchange", show);
// Ages grow while nothing is read.
setInterval(show, 10_000);

speak(saved(localStorage, "language") ?? (navigator.language.startsWith("ko") ? "ko" : "en"));
show();
