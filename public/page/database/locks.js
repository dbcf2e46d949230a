// Who blocks whom: below each session that others wait for, those that wait.
import { html } from "../html.js";
import { has, lasting, word } from "../language.js";
import { Panel, since } from "./panel.js";
import { LONG_WAIT_S, longest } from "./state.js";
import { Statement } from "./statement.js";

export const nodeOf = (pid) => `lock-${pid}`;

export function Locks({ view, blind, from }) {
  return html`<${Panel} name="locks" view=${view} blind=${blind}>${({ waiting, blockers }) => (!blockers.length ? !blind && html`<p>${word("db nobodyWaits")}</p>` : html`
    <p>${word("db waitingNow", { count: waiting })}</p>
    <ul class="tree">${blockers.map((each) => html`<${Node} key=${each.pid} node=${each} from=${from} />`)}</ul>`)}<//>`;
}

function Node({ node, above, from }) {
  const late = longest(node) > LONG_WAIT_S, tag = above ? "tag waits" : "tag holds";
  return html`<li><div class="node ${above ? "" : "holder"}" id=${nodeOf(node.pid)} tabindex="-1">
      <p><span class="tag ${late ? "failed" : ""}">${word(tag)}</span> <strong>${node.pid}</strong> ${named(node)}</p>
      <p class="small">${above ? waitText(node, above) : holdText(node)}</p>
      ${node.query !== undefined && html`<${Statement} text=${node.query} from=${from} />`}
    </div>
    ${node.blocks.length > 0 && html`<ul aria-label=${word("db waitFor", { pid: String(node.pid) })}>${node.blocks.map((each) => html`<${Node} key=${each.pid} node=${each} above=${node.pid} from=${from} />`)}</ul>`}
  </li>`;
}

// The program and the user, as far as they are known.
export const named = ({ application, user }) => [application, user && `(${user})`].filter(Boolean).join(" ");

function waitText({ waitingS, mode, kind, relation }, above) {
  const what = [relation ?? kind ?? "–", mode && `(${mode})`].filter(Boolean).join(" ");
  return word("db waitsSince", { lasting: since(waitingS), pid: String(above), what });
}

function holdText(node) {
  const count = size(node) - 1, open = node.transactionS === null || node.transactionS === undefined ? "" : word("db openSince", { lasting: lasting(node.transactionS) });
  return [word("db holdsUp", { count }), stateText(node.state), open].filter(Boolean).join(" · ");
}

const size = (node) => node.blocks.reduce((sum, each) => sum + size(each), 1);

// A session's state as the database names it; one that has no words here is shown as it is.
export function stateText(state) {
  const name = `session ${state?.toLowerCase()}`;
  return has(name) ? word(name) : state ?? "";
}
