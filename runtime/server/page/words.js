// The page's words in the chosen language, and numbers, sizes and times as that language writes them.

// A third language: its words.xx.json beside these two, and its line here.
export const LANGUAGES = { en: "English", de: "Deutsch" };

const words = {};
let language = "en";
let region = "en"; // of that language, as the browser is set: 24 hours or twelve, and the like

/** All languages are loaded at the start, so that the language can be changed while the server is away. */
export async function loadWords() {
  const load = async (code) => { words[code] = await (await fetch(new URL(`words.${code}.json`, import.meta.url))).json(); };
  await Promise.all(Object.keys(LANGUAGES).map(load));
}

/** What the person chose last, or what the browser is set to. */
export function preferredLanguage() {
  const wanted = [kept("language"), ...navigator.languages.map((each) => each.slice(0, 2))];
  return wanted.find((code) => code in LANGUAGES) ?? "en";
}

/** Change the language of everything in the document that names its words. */
export function speak(code) {
  language = code;
  region = navigator.languages.find((each) => each.startsWith(code)) ?? code;
  document.documentElement.lang = code;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of document.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", say(element.dataset.wordLabel));
  }
}

/** The words of a key, with `{name}` filled in. */
export function say(key, values = {}) {
  return words[language][key].replace(/\{([a-z]+)\}/g, (_, name) => values[name]);
}

/** Whether there are words for a key: a newer server may send a code this page has none for. */
export function isKnown(key) {
  return key in words[language];
}

/** Why there is no answer, or what to beware of, in the page's language: a key for the code, or null where it has no words. */
export function because(why) {
  if (!why || !isKnown(`why.${why.code}`)) return null;
  const written = ([name, value]) => [name, typeof value === "number" ? new Intl.NumberFormat(language).format(value) : value];
  return say(`why.${why.code}`, Object.fromEntries(Object.entries(why.values ?? {}).map(written)));
}

/**
 * A probability as a percentage. Never rounded onto the threshold it is held against, nor to 0 or 100 %: those would
 * say something else than the answer does.
 */
export function percent(probability, threshold = null) {
  const written = (value, digits) => new Intl.NumberFormat(language, {
    style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  let digits = 1;
  while (digits < 4 && probability !== threshold && threshold !== null
    && written(probability, digits) === written(threshold, digits)) digits += 1;
  if (digits === 1 && probability > 0 && probability < 0.0005) return `< ${written(0.001, 1)}`;
  if (digits === 1 && probability < 1 && probability >= 0.9995) return `> ${written(0.999, 1)}`;
  return written(probability, digits);
}

/** A threshold as a percentage, with the digits it has. */
export function plainPercent(value) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 2 }).format(value);
}

/** Bytes as KB or MB. */
export function size(bytes) {
  const mega = bytes >= 1e6;
  return new Intl.NumberFormat(language, { style: "unit", unit: mega ? "megabyte" : "kilobyte",
    maximumFractionDigits: mega && bytes < 1e7 ? 1 : 0 }).format(Math.max(1, bytes / (mega ? 1e6 : 1e3)));
}

/** Time of day, or with the day where it is printed. */
export function time(date, withDay = false) {
  return new Intl.DateTimeFormat(region, withDay ? { dateStyle: "long", timeStyle: "short" } : { timeStyle: "medium" }).format(date);
}

/** A setting of this browser (language, dark or light); nothing else is ever stored. */
export function kept(name) {
  try { return localStorage.getItem(`medcompress.${name}`); } catch { return null; }
}

/** Keep a setting; a browser that stores nothing forgets it with the page. */
export function keep(name, value) {
  try { localStorage.setItem(`medcompress.${name}`, value); } catch { /* storage is switched off */ }
}
