// What was answered on this page, in memory only: time, file name and words, never a picture.

import { $, make } from "./dom.js";
import { percent, say, time } from "./words.js";
import { summary } from "./view.js";

// A page that stays open for months keeps no more than this.
const MOST = 500;

let entries = [];

/** Note what came of a picture: `title` is the key of what is said instead of an answer. */
export function note(name, model, { answer = null, title = "" }) {
  entries = [{ at: new Date(), name, model, answer: answer && withoutPictures(answer), title }, ...entries].slice(0, MOST);
  drawHistory();
}

function withoutPictures({ label, labels, positive, probabilities, thresholds, cautions }) {
  return { label, labels, positive, probabilities, thresholds, cautions };
}

/** Forget it all. */
export function clearHistory() {
  entries = [];
  drawHistory();
}

/** Draw the list, in the page's language. */
export function drawHistory() {
  $("history-table").hidden = $("clear").hidden = !entries.length;
  $("history-none").hidden = Boolean(entries.length);
  $("history-rows").replaceChildren(...entries.map(row));
}

function row({ at, name, model, answer, title }) {
  const { words, of, threshold, probability } = answer ? summary(answer) : { words: say(title), of: null };
  const cautioned = answer?.cautions.length ? make("span", { className: "tag" }, say("answer.cautions")) : null;
  const figure = of == null ? "" : percent(probability, threshold);
  const whose = of != null && of !== words ? make("span", { className: "small muted" }, of, " ") : null;
  const cell = (key, className, ...content) => make("td", { className, "data-head": say(key) }, ...content);
  return make("tr", { className: answer ? "" : "unanswered" }, cell("history.time", "when", time(at)), cell("history.file", "file", name),
    cell("history.answer", "words", make("b", {}, words), cautioned && " ", cautioned),
    cell("history.probability", "number", whose, figure), cell("history.model", "file", model));
}
