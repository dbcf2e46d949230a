// The views of the page. The hash of the address says which one is shown (#database); without one, or with one that is
// not here, it is the overview. A new view is a file, its word ("view <name>") and a line here.
//
// A view is a component. It gets `token`, and `refused`, which it calls with what it caught when the token was not
// accepted. It reads its figures while it is shown (polling.js), and says itself how old they are.
import { Database } from "./database/view.js";
import { html } from "./html.js";
import { word } from "./language.js";

const VIEWS = { database: Database };

// The name of the view that the address asks for; "" for the overview.
export function viewNow() {
  const name = location.hash.slice(1);
  return Object.hasOwn(VIEWS, name) ? name : "";
}

export const viewOf = (name) => VIEWS[name];

// Links, so that each view has an address that can be kept and sent.
export function Nav({ shown }) {
  return html`<nav aria-label=${word("views")}><ul>${["", ...Object.keys(VIEWS)].map((name) => html`<li key=${name}>
    <a href="#${name}" aria-current=${name === shown ? "page" : null}>${word(`view ${name || "overview"}`)}</a></li>`)}</ul></nav>`;
}
