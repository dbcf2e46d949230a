// The top of a view: its name, how old its figures are, and the button that reads them again.
import { html } from "./html.js";
import { word } from "./language.js";

export function Bar({ name, age, again }) {
  return html`<div class="head bar"><h2>${word(`view ${name}`)}</h2><p class="age">${age}</p><button type="button" onClick=${again}>${word("again")}</button></div>`;
}
