// The panels in their order. A new panel is a file in panels/, its texts in words/, and a line here; each gets all
// figures and takes those it shows. `sure` asks before an action.
import { html } from "./html.js";
import { Actions } from "./panels/actions.js";
import { Alerts, Callers, NotableRequests } from "./panels/activity.js";
import { Circuits } from "./panels/circuits.js";
import { Data } from "./panels/data.js";
import { Latency } from "./panels/latency.js";
import { Left } from "./panels/left.js";
import { Playground } from "./panels/playground.js";
import { Saved } from "./panels/saved.js";
import { Traffic } from "./panels/traffic.js";

export function Board({ state, pick, sure }) {
  const { data, activity, token } = state;
  return html`<div class="board">
    <${Left} data=${data} />
    <${Circuits} data=${data} activity=${activity} sure=${sure} />
    <${Alerts} activity=${activity} />
    <${Traffic} state=${state} pick=${pick} />
    <div class="column"><${Latency} data=${data} /><${Saved} data=${data} /></div>
    <${Callers} activity=${activity} sure=${sure} />
    <${Data} data=${data} />
    <${NotableRequests} activity=${activity} />
    <${Playground} data=${data} token=${token} />
    <${Actions} data=${data} sure=${sure} />
  </div>`;
}
