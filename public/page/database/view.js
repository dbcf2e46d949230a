// The databases that are watched: which one, how it is doing, who blocks whom, what it works on and waits for.
import { worded } from "../api.js";
import { Bar } from "../bar.js";
import { html, useLayoutEffect, useRef } from "../html.js";
import { ago, moment, word } from "../language.js";
import { outdated, titleOf } from "../panels/verdict.js";
import { usePolling } from "../polling.js";
import { Glance, inWords } from "./glance.js";
import { Locks } from "./locks.js";
import { readAll } from "./reading.js";
import { Sessions } from "./sessions.js";
import { isBlind, oldest } from "./state.js";
import { Statements } from "./statements.js";
import { Trend } from "./trend.js";
import { Waits } from "./waits.js";

// Half as often where there is nothing to follow: each reading costs some thirty Redis commands.
const CALM_S = 60, FOLLOWED_S = 30;
const everyS = (reading) => (reading?.views?.locks.value?.waiting ? FOLLOWED_S : CALM_S);

// `about`: the connection that the address names; the first one if it names none.
export function Database({ token, about, refused }) {
  const anew = useRef(false);
  const read = () => {
    const now = anew.current;
    anew.current = false;
    return readAll(token, about, now);
  };
  const { value, error, waitS, again } = usePolling(read, { key: about, everyS, retries: 1, retryS: FOLLOWED_S, refused });
  // While another one is on its way, the links to all of them stay.
  const links = useRef([]);
  links.current = value?.connections ?? links.current;
  const refresh = () => { anew.current = true; again(); };
  const connection = value?.connections.find((each) => each.id === value.id), said = value?.views && saidOf(connection, value.views, error);
  useLayoutEffect(() => {
    if (said) document.title = titleOf({ ...said, head: `${value.id}: ${said.head}` });
  });
  return html`<div class="database">
    <${Bar} name="database" age=${ageOf(value, error)} again=${refresh} />
    <${Connections} connections=${links.current} id=${value ? value.id : about} />
    <p class="trouble" role="alert" hidden=${!error}>${error && troubleOf(value, error, waitS)}</p>
    ${value && (value.views ? html`<${Board} key=${value.id} token=${token} connection=${connection ?? { id: value.id }} views=${value.views} said=${said} refused=${refused} />` : html`<${Nothing} id=${value.id} />`)}
  </div>`;
}

function ageOf(value, error) {
  if (!value) return error ? "" : word("loading");
  const at = value.views && oldest(value.views);
  return at ? word("fresh", { when: ago(at) }) : "";
}

function saidOf(connection, views, error) {
  const said = inWords(connection, views), at = oldest(views);
  return error && at ? outdated(said, at) : said;
}

function troubleOf(value, error, seconds) {
  const why = worded(error), at = value?.views && oldest(value.views);
  return at ? word("stale", { why, seconds, when: moment(at) }) : word("empty", { why, seconds });
}

// Links, so that each database has an address.
function Connections({ connections, id }) {
  return connections.length > 0 && html`<nav class="connections" aria-label=${word("connections")}><ul>${connections.map((each) => html`<li key=${each.id}>
    <a href=${`#database/${encodeURIComponent(each.id)}`} aria-current=${each.id === id ? "true" : null}><strong>${each.id}</strong> <span class="small">${each.kind}</span>
      <span class="health ${each.health}">${word(`health ${each.health}`)}</span></a></li>`)}</ul></nav>`;
}

function Nothing({ id }) {
  return html`<section class="card" aria-labelledby="db-nothing"><h3 id="db-nothing">${id ? word("db unknownTitle", { id }) : word("db noneTitle")}</h3>
    <p>${word(id ? "db unknown" : "db none")}</p>${!id && html`<pre tabindex="0" role="region" aria-label="DB_CONNECTIONS"><code>DB_CONNECTIONS=shop=postgres:SHOP_URL</code></pre>`}</section>`;
}

function Board({ token, connection, views, said, refused }) {
  const from = { token, connection }, blind = isBlind(views);
  return html`<div class="board">
    <${Glance} said=${said} views=${views} />
    <${Locks} view=${views.locks} blind=${blind} from=${from} />
    <${Waits} view=${views["wait-events"]} blind=${blind} />
    <${Statements} view=${views["sql-statistics"]} from=${from} />
    <${Sessions} view=${views.sessions} from=${from} />
    <${Trend} token=${token} id=${connection.id} refused=${refused} />
  </div>`;
}
