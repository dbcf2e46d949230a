"use strict";
// The page: asks /api/overview, shows what it says, and asks again. What fails leaves the last figures standing.
(() => {
  const EVERY_S = 30, LONGEST_S = 300, KINDS = ["serve", "compute", "refuse", "fail"];
  const $ = (id) => document.getElementById(id);
  const charts = {};
  let language = saved(localStorage, "language") || (navigator.language.startsWith("ko") ? "ko" : "en");
  let token = saved(sessionStorage, "token"), data = null, trouble = null, timer = 0, failed = 0, asking = false;

  function saved(store, name) { try { return store.getItem(name); } catch { return null; } }
  function save(store, name, value) {
    try { value === null ? store.removeItem(name) : store.setItem(name, value); } catch { /* a private window keeps nothing */ }
  }

  // ------------------------------------------------------------ words

  function word(name, values = {}) {
    const text = WORDS[language][name];
    return String(text ?? name).replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
  }
  const number = (value) => new Intl.NumberFormat(language).format(value);
  const percent = (value) => value === null ? word("none")
    : new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
  const millis = (value) => value === null ? word("none")
    : value >= 1000 ? `${number(Math.round(value / 100) / 10)} s` : `${number(Math.round(value * 10) / 10)} ms`;
  function moment(seconds) {
    const date = new Date(seconds * 1000), near = Math.abs(Date.now() - date) < 72e6;
    const shape = near ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
      : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    return new Intl.DateTimeFormat(language, shape).format(date);
  }
  function ago(seconds) {
    const past = Math.round(seconds - Date.now() / 1000), format = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
    if (Math.abs(past) < 90) return format.format(past, "second");
    return Math.abs(past) < 5400 ? format.format(Math.round(past / 60), "minute") : format.format(Math.round(past / 3600), "hour");
  }

  // ------------------------------------------------------------ ask

  // The day's key to the overview: in the address, so that the edge may answer; it opens nothing else.
  async function viewKey() {
    const bytes = new TextEncoder(), day = new Date().toISOString().slice(0, 10);
    const key = await crypto.subtle.importKey("raw", bytes.encode(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const signed = await crypto.subtle.sign("HMAC", key, bytes.encode(`breakwater overview ${day}`));
    return `${day}.${Array.from(new Uint8Array(signed), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }

  async function ask() {
    if (!token || asking) return;
    asking = true;
    clearTimeout(timer);
    try {
      const secure = globalThis.crypto?.subtle;
      const reply = await fetch(secure ? `/api/overview?view=${await viewKey()}` : "/api/overview", {
        headers: secure ? {} : { authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(10_000), cache: "no-cache",
      });
      if (reply.status === 401 || reply.status === 403) {
        leave(reply.status === 401 ? "refused" : "closed");
        return;
      }
      if (!reply.ok) throw new Error(word("server", { status: reply.status }));
      const read = await reply.json();
      if (!token) return; // forgotten meanwhile
      data = read;
      trouble = null;
      failed = 0;
    } catch (error) {
      trouble = error instanceof TypeError || error.name === "TimeoutError" ? word("offline") : error.message;
      failed += 1;
    } finally {
      asking = false;
    }
    show();
    timer = setTimeout(() => { if (!document.hidden) ask(); }, wait() * 1000);
  }
  const wait = () => failed ? Math.min(LONGEST_S, EVERY_S * 2 ** (failed - 1)) : EVERY_S;

  function leave(why) {
    token = data = trouble = null;
    failed = 0;
    clearTimeout(timer);
    save(sessionStorage, "token", null);
    show();
    $("enter-error").textContent = why ? word(why) : "";
    $("token").focus();
  }

  // ------------------------------------------------------------ show

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function show() {
    document.documentElement.lang = language;
    for (const each of document.querySelectorAll("[data-word]")) each.textContent = word(each.dataset.word);
    $("language").textContent = language === "ko" ? "English" : "한국어";
    $("language").lang = language === "ko" ? "en" : "ko";
    $("enter").hidden = $("about").hidden = Boolean(token);
    $("again").hidden = $("leave").hidden = !token;
    $("board").hidden = !data;
    $("foot").textContent = data ? word("foot", { seconds: number(data.freshFor) }) : "";
    showState();
    if (!data) return;
    showTiles();
    $("allowances").replaceChildren(...data.allowances.map(allowance));
    $("legend").replaceChildren(...KINDS.map((kind) => element("span", { class: kind }, element("b", {}, word(kind)))));
    for (const name of ["hour", "day"]) showRequests(name, data[name]);
    $("circuits").replaceChildren(...(data.circuits.length ? data.circuits.map(circuit) : [element("li", {}, word("noCircuits"))]));
    $("alerts").replaceChildren(...(data.alerts.length ? data.alerts.map(alert) : [element("li", {}, word("noAlerts"))]));
  }

  function showState() {
    const note = $("trouble"), values = { why: trouble, seconds: number(wait()) };
    let text = "";
    if (trouble) text = data ? word("stale", { ...values, when: moment(data.at) }) : word("empty", values);
    else if (data?.source === "instance") text = word("instance");
    if (note.textContent !== text) note.textContent = text;
    note.hidden = !text;
    const state = !token ? "" : !data ? (trouble ? "" : word("loading")) : trouble ? ago(data.at) : word("fresh", { when: ago(data.at) });
    if ($("state").textContent !== state) $("state").textContent = state;
  }

  function tile(name, big, small) {
    return element("div", {}, element("dt", {}, word(name)), element("dd", { class: "big" }, big), element("dd", { class: "small" }, small));
  }

  function showTiles() {
    const { hitRate, errorRate, latency } = data;
    $("tiles").replaceChildren(
      tile("mode", word(data.mode), WORDS[language].saving[data.thrift]),
      tile("hitRate", percent(hitRate.hour), word("ofDay", { value: percent(hitRate.day) })),
      tile("errorRate", percent(errorRate.hour), word("ofDay", { value: percent(errorRate.day) })),
      tile("latency", millis(latency.request.p50), word("p95", { value: millis(latency.request.p95) })),
      tile("latencyRedis", millis(latency.redis.p95), word("guard", { value: millis(latency.guard.p95) })),
    );
  }

  function allowance(each) {
    const [kind, zone] = each.period.split(", "), level = each.left === 0 ? "over" : each.percent >= 80 || each.runsOutAt ? "warn" : "";
    const label = `${each.service}, ${word(each.unit)} ${word(`of ${kind}`, { zone })}`;
    const used = word("used", { used: number(each.used), limit: number(each.limit), unit: word(each.unit) });
    const forecast = each.left === 0 ? word("out") : each.runsOutAt ? word("runsOut", { when: moment(each.runsOutAt) })
      : each.unit === "MB" ? "" : word("lasts");
    const resets = each.period === "24 hours" ? word("rolling") : each.resetsAt ? word("resets", { when: moment(each.resetsAt) }) : "";
    const source = each.source === "measured" && !each.asOf ? word("unmeasured") : word(each.source, { when: each.asOf ? moment(each.asOf) : "" });
    const fill = element("div");
    fill.style.width = `${Math.min(100, each.percent)}%`;
    const bar = element("div", {
      class: `track ${level}`, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": Math.min(100, each.percent), "aria-valuetext": `${used}. ${forecast}`,
    }, fill);
    return element("li", {},
      element("h3", {}, element("span", {}, each.service), element("span", {}, `${number(each.percent)} %`)),
      element("p", { class: "small" }, `${word(each.unit)} ${word(`of ${kind}`, { zone })}`), bar,
      element("p", {}, `${used}, ${word("remains", { left: number(each.left) })}.`),
      element("p", { class: level ? `${level}-text` : "" }, forecast),
      element("p", { class: "small" }, [resets, `(${source})`].filter(Boolean).join(" ")));
  }

  function circuit(each) {
    const state = word(`state ${each.state}`, { when: each.until ? moment(each.until) : "", reason: each.reason });
    const more = each.state === "closed" && each.failures ? ` (${word("failures", { count: number(each.failures) })})` : "";
    return element("li", {}, element("strong", {}, each.provider), element("span", { class: each.state }, state + more));
  }

  function alert(each) {
    const texts = WORDS[language][`alert ${each.kind}`];
    const about = WORDS[language][each.about] ?? each.about;
    // A kind that has no words here is shown by its name.
    const text = Array.isArray(texts) ? texts[Number(each.about)]
      : texts ? word(`alert ${each.kind}`, { about }) : [each.kind, about].filter(Boolean).join(": ");
    return element("li", {}, element("span", {}, text), element("time", { datetime: new Date(each.at * 1000).toISOString() }, moment(each.at)));
  }

  // ------------------------------------------------------------ charts

  function showRequests(name, slices) {
    const sums = Object.fromEntries(KINDS.map((kind) => [kind, slices.reduce((sum, each) => sum + each[kind], 0)]));
    const total = KINDS.reduce((sum, kind) => sum + sums[kind], 0);
    const shown = Object.fromEntries(Object.entries({ ...sums, total }).map(([key, value]) => [key, number(value)]));
    $(name).setAttribute("aria-label", word("chart", shown));
    $(`${name}-table`).setAttribute("aria-label", word(name));
    $(`${name}-table`).setAttribute("role", "region");
    $(`${name}-table`).replaceChildren(table(slices));
    draw(name, slices);
  }

  function table(slices) {
    const head = element("tr", {}, ...["time", ...KINDS, "total"].map((each) => element("th", { scope: "col" }, word(each))));
    const rows = [...slices].reverse().map((each) => {
      const total = KINDS.reduce((sum, kind) => sum + each[kind], 0);
      return element("tr", {}, element("th", { scope: "row" }, moment(each.at)), ...[...KINDS.map((kind) => each[kind]), total].map((value) => element("td", {}, number(value))));
    });
    return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  }

  // Stacked bars: each series is the sum of itself and those below it, and the tallest is drawn first.
  function draw(name, slices) {
    const style = getComputedStyle(document.documentElement), color = (each) => style.getPropertyValue(`--${each}`).trim();
    const box = $(name), times = slices.map((each) => each.at);
    const stacked = KINDS.map((_, at) => slices.map((each) => KINDS.slice(0, at + 1).reduce((sum, kind) => sum + each[kind], 0)));
    const step = times[1] - times[0];
    const bars = uPlot.paths.bars({ size: [0.75, 60], align: 1 });
    const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    charts[name]?.destroy();
    charts[name] = new uPlot({
      width: box.clientWidth || 300, height: 200, padding: [12, 24, 0, 0], legend: { show: false }, cursor: { show: false },
      scales: { x: { range: [times[0], times.at(-1) + step] }, y: { range: (u, low, high) => [0, Math.max(4, high * 1.1)] } },
      axes: [{ ...axis, size: 28, space: 64, grid: { show: false }, values: (u, found) => found.map((at) => clock.format(at * 1000)) },
        { ...axis, size: 56, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6], values: (u, found) => found.map(number) }],
      series: [{}, ...KINDS.toReversed().map((kind) => ({ fill: color(kind), stroke: color(kind), width: 0, paths: bars, points: { show: false } }))],
    }, [times, ...stacked.toReversed()], box);
  }

  // ------------------------------------------------------------ events

  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    $("token").value = $("enter-error").textContent = "";
    if (!token) return;
    save(sessionStorage, "token", token);
    show();
    $("main").focus();
    ask();
  });
  $("language").addEventListener("click", () => {
    language = language === "ko" ? "en" : "ko";
    save(localStorage, "language", language);
    show();
  });
  $("again").addEventListener("click", ask);
  $("leave").addEventListener("click", () => leave());
  // A hidden page asks nothing: nobody looks, and every question costs.
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (data) show(); });
  let resized = 0;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (data) show(); }, 150); });
  setInterval(showState, 10_000);

  show();
  if (token) ask();
})();
