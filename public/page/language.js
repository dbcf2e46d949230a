// Words, numbers and times in the reader's language. All texts are in words/, one file a language.
import en from "./words/en.js";
import ko from "./words/ko.js";

export const WORDS = { en, ko };
let language = "en", locale = "en";

export const spoken = () => language;
export function speak(wanted) {
  language = WORDS[wanted] ? wanted : "en";
  // The reader's own way to write dates, where the browser says which one of the language it is.
  locale = navigator.languages.find((each) => each.split("-")[0] === language) ?? language;
}

// The text of a name; of a text in forms, that of values.count. A name without a text is shown as it is.
export function word(name, values = {}) {
  let text = WORDS[language][name] ?? name;
  if (Array.isArray(text)) text = text[values.count === 1 ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (all, key) => shown(values[key]) ?? all);
}
const shown = (value) => (typeof value === "number" ? number(value) : value);

export const has = (name) => name in WORDS[language];
// How something failed, by the name that programs know it by; one that has no words here is shown as it is.
export const howFailed = (kind) => (has(`failed ${kind}`) ? word(`failed ${kind}`) : kind ?? "");
export const form = (name, at) => WORDS[language][name]?.[at] ?? name;
export const number = (value) => new Intl.NumberFormat(locale).format(value);
export const list = (items) => new Intl.ListFormat(locale, { type: "conjunction" }).format(items);

export function percent(share) {
  if (share === null) return word("none");
  return new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 }).format(share);
}

export function millis(ms) {
  if (ms === null) return word("none");
  if (ms >= 1000) return `${number(Math.round(ms / 100) / 10)} s`;
  return `${number(Math.round(ms * (ms < 1 ? 100 : 10)) / (ms < 1 ? 100 : 10))} ms`;
}

export function bytes(size) {
  const [unit, of] = size >= 1e9 ? ["gigabyte", 1e9] : size >= 1e6 ? ["megabyte", 1e6] : size >= 1e3 ? ["kilobyte", 1e3] : ["byte", 1];
  return new Intl.NumberFormat(locale, { style: "unit", unit, maximumFractionDigits: 1 }).format(size / of);
}

export const clock = (seconds) => format(seconds, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const date = (seconds) => format(seconds, { month: "short", day: "numeric" });
export const sameDay = (a, b) => new Date(a * 1000).toDateString() === new Date(b * 1000).toDateString();

// A time as short as it is clear: today by the clock, within six days with its weekday, else with its date.
export function moment(seconds, now = Date.now() / 1000) {
  if (sameDay(seconds, now)) return clock(seconds);
  const near = seconds > now && seconds - now < 6 * 86_400;
  return `${near ? format(seconds, { weekday: "long" }) : date(seconds)} ${clock(seconds)}`;
}

export function ago(seconds, now = Date.now() / 1000) {
  const past = Math.round(seconds - now), relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  if (Math.abs(past) < 90) return relative.format(past, "second");
  return Math.abs(past) < 5400 ? relative.format(Math.round(past / 60), "minute") : relative.format(Math.round(past / 3600), "hour");
}

// A length of time in its largest whole unit.
export function span(seconds) {
  const [unit, size] = seconds >= 86_400 ? ["day", 86_400] : seconds >= 3600 ? ["hour", 3600] : ["minute", 60];
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(Math.max(1, Math.floor(seconds / size)));
}

// How long something has lasted, in the unit that says most: 4 sec, 12 min.
export function lasting(seconds) {
  if (seconds === null || seconds === undefined) return word("none");
  const [unit, size] = seconds >= 172_800 ? ["day", 86_400] : seconds >= 7200 ? ["hour", 3600] : seconds >= 120 ? ["minute", 60] : ["second", 1];
  const digits = unit === "second" && seconds < 10 ? 1 : 0;
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits }).format(seconds / size);
}

export function zone() {
  const options = { timeZoneName: "shortOffset" };
  const offset = new Intl.DateTimeFormat("en", options).formatToParts().find((part) => part.type === "timeZoneName").value;
  return `${Intl.DateTimeFormat().resolvedOptions().timeZone} (${offset})`;
}

function format(seconds, options) {
  return new Intl.DateTimeFormat(locale, options).format(seconds * 1000);
}
