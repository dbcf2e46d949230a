// What is left and what happened. The past and what callers did are read far less often than the rest, and only after it.
import { useActions } from "./acting.js";
import { figures, worded } from "./api.js";
import { Bar } from "./bar.js";
import { Board } from "./board.js";
import { html, useLayoutEffect, useState } from "./html.js";
import { ago, moment, word } from "./language.js";
import { inWords, outdated, titleOf, Verdict } from "./panels/verdict.js";
import { usePolling } from "./polling.js";

const EVERY_S = 30, ACTIVITY_EVERY_S = 300, HISTORY_EVERY_S = 900;

export function Overview({ token, refused }) {
  const [range, pick] = useState({ range: "24h", by: "outcome" });
  const reading = usePolling(() => figures("/api/overview", token), { key: "", everyS: EVERY_S, refused }), data = reading.value;
  const activity = useSeldom(data && "/api/activity", {}, token, ACTIVITY_EVERY_S, refused);
  const isLong = range.range === "7d" || range.range === "30d";
  const history = useSeldom(data && isLong && "/api/history", range, token, HISTORY_EVERY_S, refused);
  const said = data && reading.error ? outdated(inWords(data), data.at) : inWords(data), trouble = troubleOf(reading, activity);
  useLayoutEffect(() => { if (data || reading.error) document.title = titleOf(said); });
  const { sure, said: became, question } = useActions(token, () => { reading.again(); activity.again(); });
  const state = { token, data, activity: activity.value, history: history.value, historyTrouble: history.error && worded(history.error), ...range };
  return html`<${Bar} name="overview" age=${ageOf(reading)} again=${reading.again} />
    ${(data || reading.error) && html`<${Verdict} said=${said} />`}
    <p class="trouble" role="alert" hidden=${!trouble}>${trouble}</p>
    ${became}
    ${data && html`<${Board} state=${state} pick=${pick} sure=${sure} />
      <p class="foot">${word("foot", { commands: data.flush.commands, minutes: data.flush.seconds / 60, seconds: data.freshFor })}</p>`}
    ${question}`;
}

// Reads a path every so often; nothing while there is no path. A failure is followed by an attempt as soon as for the rest.
function useSeldom(path, values, token, everyS, refused) {
  const key = path ? JSON.stringify([path, values]) : "";
  return usePolling(() => (path ? figures(path, token, values) : null), { key, everyS, refused, freshS: everyS, retries: Infinity, retryS: EVERY_S });
}

const ageOf = ({ value, error }) => (value ? word("fresh", { when: ago(value.at) }) : error ? "" : word("loading"));

function troubleOf({ value, error, waitS }, activity) {
  const values = { why: error && worded(error), seconds: waitS };
  if (error) return value ? word("stale", { ...values, when: moment(value.at) }) : word("empty", values);
  if (value && value.source !== "redis") return word(value.source, { when: moment(value.at) });
  return activity.error ? word("activityFailed", { why: worded(activity.error) }) : "";
}
