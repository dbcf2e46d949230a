// The databases that are watched.
import { html } from "../html.js";
import { word } from "../language.js";

export function Database() {
  return html`<h2>${word("view database")}</h2>`;
}
