// How long things take: this month's median and p95, and the means of the last day's hours.
import { Bars, Choosing } from "../chart.js";
import { html, useState } from "../html.js";
import { clock, millis, word } from "../language.js";

const PAINT = { fill: "serve", stroke: "card" };

export function Latency({ data: { source, latency, day } }) {
  // That nothing took any time can be said only where Redis was read.
  if (source === "instance" && latency.request.p50 === null) return html`<section class="card" aria-labelledby="latency-title"><h2 id="latency-title">${word("latency")}</h2><p>${word("unknownNow")}</p></section>`;
  const rows = [[word("whole"), latency.request], ...Object.entries(latency.providers).map(([name, each]) => [word("provider", { name }), each]),
    [word("redisTrip"), latency.redis], [word("own"), latency.guard]];
  return html`<section class="card" aria-labelledby="latency-title">
    <h2 id="latency-title">${word("latency")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${word("tableOf", { what: word("latency") })}><table class="full">
      <thead><tr><th scope="col">${word("latencyOf")}</th><th scope="col">${word("median")}</th><th scope="col">${word("p95")}</th></tr></thead>
      <tbody>${rows.map(([name, each]) => html`<tr key=${name}><th scope="row">${name}</th><td>${millis(each.p50)}</td><td>${millis(each.p95)}</td></tr>`)}</tbody>
    </table></div>
    ${latency.requestByHour.some((each) => each !== null) && html`<${Means} latency=${latency} times=${day.map((each) => each.at)} />`}
  </section>`;
}

function Means({ latency, times }) {
  const [chosen, choose] = useState(null), ends = times.map((at) => at + 3600);
  const lines = [["requestMean", latency.requestByHour], ["redisMean", latency.redisByHour]];
  const last = times.length - 1, at = chosen ?? last;
  const text = `${clock(times[at])}–${clock(ends[at])}: ${lines.map(([name, values]) => `${word(name)} ${millis(values[at])}`).join(" · ")}${at === last ? ` (${word("soFar")})` : ""}`;
  return html`<h3>${word("latencyByHour")}</h3><p class="readout" aria-hidden="true">${text}</p>
    <${Choosing} label=${word("choose", { what: word("latencyByHour") })} text=${text} count=${times.length} chosen=${chosen} choose=${choose}>
      ${lines.map(([name, counts], place) => html`<h3 class="strip-title" key=${name}>${word(name)}</h3>
        <${Bars} key=${`bars ${name}`} times=${times} ends=${ends} chosen=${chosen} choose=${choose} series=${[{ name, counts, paint: PAINT }]} height=${place ? 88 : 66} axis=${place === 1} />`)}
    <//>
    <ul class="legend"><li><span class="key any" aria-hidden="true"></span>${word("latencyByHour")}</li><li><span class="key soFar" aria-hidden="true"></span>${word("soFar")}</li></ul>`;
}
