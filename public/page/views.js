// The views of the page. The hash of the address says which one is shown (#database), and what of it (#database/shop);
// without one, or with one that is not here, it is the overview. A new view is a file, its word ("view <name>") and a
// line here.
//
// A view is a component. It gets `token`; `about`, the rest of the hash; and `refused`, which it calls with what it
// caught when the token was not accepted. It reads its figures while it is shown (polling.js), says itself how old they
// are, and may set the title in a layout effect.
import { isUsers } from "./api.js";
import { Database } from "./database/view.js";
import { Fleet } from "./fleet/view.js";
import { html } from "./html.js";
import { word } from "./language.js";
import { Overview } from "./overview.js";

const VIEWS = { database: Database, fleet: Fleet };

// What the address asks for: the name of a view ("" for the overview), and what of it. The overview is the operator's: a
// user's token leads to the first of the others.
export function viewNow(token) {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const known = Object.hasOwn(VIEWS, name) ? name : "";
  return { view: known || (isUsers(token) ? Object.keys(VIEWS)[0] : ""), about: known ? decoded(rest.join("/")) : "" };
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

export const viewOf = (name) => VIEWS[name] ?? Overview;

// Links, so that each view has an address that can be kept and sent.
export function Nav({ token, shown }) {
  const names = [...(isUsers(token) ? [] : [""]), ...Object.keys(VIEWS)];
  return html`<nav aria-label=${word("views")}><ul>${names.map((name) => html`<li key=${name}>
    <a href="#${name}" aria-current=${name === shown ? "page" : null}>${word(`view ${name || "overview"}`)}</a></li>`)}</ul></nav>`;
}
