// What stands in the answer's panel: one state at a time, drawn again when the language changes.

import { $, icon, make } from "./dom.js";
import { because, isKnown, percent, plainPercent, say, size } from "./words.js";

// After so many seconds a person wonders.
const SLOW = 6;

let drawn = null;
let ticking = 0;

/**
 * Show a state and say it to those who listen.
 *
 * `actions` are the functions its buttons call: `cancel`, `again`, `token`.
 */
export function show(state, data = {}, actions = {}) {
  drawn = { state, data, actions };
  redraw();
  const words = saying(state, data);
  if (words) announce(words);
}

/** Draw the state that is shown again, without saying it. */
export function redraw() {
  if (!drawn) return;
  const { state, data, actions } = drawn;
  clearInterval(ticking);
  document.body.dataset.state = state;
  $("answer").setAttribute("aria-busy", String(state === "waiting"));
  $("print").hidden = state !== "answer";
  const content = make("div", { className: `state ${state}` }, ...STATES[state](data, actions));
  $("view").replaceChildren(content);
}

/** Say something to a screen reader. */
export function announce(words) {
  $("said").textContent = words;
}

const button = (words, onclick, className = "") => make("button", { type: "button", className, onclick }, words);
const title = (words) => make("h3", { className: "word" }, words);
const text = (words, className = "") => make("p", { className }, words);
// What the server says is in English, whatever the page is in: for whoever is called, and out of the way of all others.
const quoted = (words) => words ? make("details", { className: "quoted" }, make("summary", {}, say("failed.server")),
  make("p", { lang: "en" }, words)) : null;

// A state that is a title, what it means, what the server said, and perhaps a button.
const plain = (head, how, message = "", ...buttons) => [title(say(head)), text(how), quoted(message),
  buttons.length ? make("div", { className: "choices" }, ...buttons) : null];
const again = (actions) => button(say("failed.again"), actions.again, "main");

const STATES = {
  idle: () => plain("answer.idle", say("answer.idle-how")),
  waiting: drawWaiting,
  busy: (data, actions) => {
    const how = text(say("busy.how", { n: data.after }));
    const end = Date.now() + data.after * 1000;
    ticking = setInterval(() => { how.textContent = say("busy.how", { n: Math.max(0, Math.ceil((end - Date.now()) / 1000)) }); }, 500);
    return [title(say("busy.title")), how, progress(), cancelling(actions)];
  },
  gone: (_, actions) => [title(say("gone.title")), text(say("gone.how")), progress(), cancelling(actions)],
  starting: (data, actions) => [title(say("starting.title")), text(say(data.failed ? "starting.failed" : "starting.how")),
    quoted(data.failed ? data.reason : ""), progress(), cancelling(actions)],
  cancelled: (_, actions) => plain("cancelled.title", say("cancelled.how"), "", again(actions)),
  refused: (data) => {
    const why = because(data.why);
    const said = why ? text(why, "why") : make("p", { className: "why", lang: "en" }, data.message);
    return [title(say("refused.title")), said, text(say("refused.how"), "muted"), why ? quoted(data.message) : null];
  },
  unreadable: (data) => [title(say("unreadable.title")), text(because(data.why) ?? say("unreadable.how"), "why"), quoted(data.message)],
  large: (data) => plain("large.title", data.limit ? say("large.how", { size: size(data.bytes), limit: size(data.limit) }) : say("large.server"), data.message),
  empty: () => plain("empty.title", say("empty.how")),
  lost: () => plain("lost.title", say("lost.how")),
  slow: (data, actions) => plain("slow.title", say("slow.how"), data.message, again(actions)),
  failed: (data, actions) => plain("failed.title", say(isKnown(`failed.${data.kind}`) ? `failed.${data.kind}` : "failed.how"), data.message, again(actions)),
  token: drawToken,
  answer: drawAnswer,
};

const progress = () => make("div", { className: "progress", "aria-hidden": "true" });
const cancelling = (actions) => make("div", { className: "choices" }, button(say("waiting.cancel"), actions.cancel));

function drawWaiting(data, actions) {
  const seconds = make("span", { className: "seconds muted", "aria-hidden": "true" });
  const slow = text("", "muted");
  const tick = () => {
    const n = Math.floor((Date.now() - data.since) / 1000);
    seconds.textContent = n ? say("waiting.seconds", { n }) : "";
    if (n < SLOW || slow.textContent) return;
    slow.textContent = say("waiting.slow");
    announce(say("waiting.slow"));
  };
  ticking = setInterval(tick, 500);
  tick();
  return [title(say("waiting.title")), progress(), seconds, slow, cancelling(actions)];
}

function drawToken(data, actions) {
  // No password to the browser, which would offer to keep it.
  const input = make("input", { type: "text", className: "secret", id: "token", autocomplete: "off", spellcheck: false, required: true });
  const form = make("form", { className: "token" }, make("label", { for: "token" }, say("token.label")), input,
    make("button", { className: "main" }, say("token.use")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.token(input.value.trim());
  });
  return [title(say("token.title")), text(say(data.wrong ? "token.wrong" : "token.how")), form];
}

/** The answer's words, and the probability and threshold they rest on, for the panel, the history and the voice. */
export function summary(answer) {
  const { label, labels, positive, probabilities, thresholds } = answer;
  const of = positive ?? label;
  const threshold = of == null ? null : thresholds[of] ?? null;
  // Several findings have a threshold each; of several classes the likeliest is the answer, and there is none.
  const several = positive == null && Object.keys(thresholds).length > 0;
  const words = several && !labels.length ? say("answer.none") : several ? labels.join(", ") : label;
  return { words, of, threshold, several, probability: of == null ? null : probabilities[of] };
}

function drawAnswer(answer) {
  const { words, of, threshold, several, probability } = summary(answer);
  const { labels, positive, probabilities, thresholds } = answer;
  const classes = Object.keys(probabilities).sort((a, b) => probabilities[b] - probabilities[a]);
  const content = [title(words), warned(cautionsOf(answer))];
  if (several) {
    content.push(text(labels.length ? "" : say("answer.none-how", { n: classes.length })));
    content.push(ladder(say("answer.all"), classes, probabilities, thresholds, labels));
  } else {
    content.push(make("p", { className: "figure" }, make("span", {}, say("answer.probability", { label: of })), " ",
      make("b", {}, percent(probability, threshold))));
    if (positive != null) {
      const over = probability >= threshold;
      content.push(scale(probability, threshold, over, true));
      content.push(text(say(over ? "answer.over" : "answer.under", { threshold: plainPercent(threshold), label: answer.label })));
    } else {
      content.push(text(say("answer.likeliest", { n: classes.length })));
      content.push(ladder(say("answer.classes"), classes, probabilities, thresholds, labels));
    }
  }
  if (!answer.heat) content.push(text(say("answer.no-heat"), "small muted"));
  content.push(detailed(answer));
  return content;
}

// In the page's language, or as the server says it: `{words, own}`.
function cautionsOf({ cautions, whys }) {
  return cautions.map((said, i) => ({ words: because(whys?.[i]) ?? said, own: because(whys?.[i]) !== null }));
}

function warned(cautions) {
  if (!cautions.length) return null;
  const head = make("h4", {}, icon("caution"), say("answer.cautions"));
  const line = ({ words, own }) => make("li", own ? {} : { lang: "en" }, words);
  return make("div", { className: "cautions" }, head, make("ul", {}, ...cautions.map(line)));
}

// A bar from 0 to 100 % with the threshold drawn on it. Neither colour is red or green: below a threshold is not "all clear".
function scale(probability, threshold, answered, withWords = false) {
  const fill = make("span", { className: "fill" });
  fill.style.width = `${probability * 100}%`;
  const bar = make("div", { className: "scale", "aria-hidden": "true" }, make("span", { className: "track" }, fill));
  bar.classList.toggle("over", answered);
  if (threshold === null) return bar;
  const mark = make("span", { className: "mark" });
  mark.style.left = `${threshold * 100}%`;
  bar.append(mark);
  if (!withWords) return bar;
  const name = make("span", { className: "mark-word" }, say("answer.threshold", { threshold: plainPercent(threshold) }));
  // The words stay on the bar wherever the threshold lies.
  name.style.left = `${threshold * 100}%`;
  name.style.transform = `translateX(${-threshold * 100}%)`;
  bar.append(name);
  return bar;
}

function ladder(caption, classes, probabilities, thresholds, labels) {
  const rung = (name) => {
    const threshold = thresholds[name] ?? null;
    const found = labels.includes(name);
    const line = make("li", { className: found ? "found" : "" }, make("span", { className: "name" }, name), " ",
      make("b", {}, percent(probabilities[name], threshold)), " ", scale(probabilities[name], threshold, found));
    if (threshold !== null) {
      const state = say(found ? "answer.found" : "answer.not-found");
      line.append(make("span", { className: "small muted" }, `${state}, ${say("answer.threshold-short", { threshold: plainPercent(threshold) })}`));
    }
    return line;
  };
  return make("div", {}, make("h4", {}, caption), make("ul", { className: "ladder" }, ...classes.map(rung)));
}

function detailed(answer) {
  const facts = [[say("details.model"), answer.model], [say("details.bundle"), answer.bundle], [say("details.variant"), answer.variant],
    [say("details.time"), say("details.ms", { ms: Math.round(answer.time_ms?.total ?? 0) })], [say("details.request"), answer.request]];
  const rows = facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]);
  return make("details", {}, make("summary", {}, say("answer.details")), make("dl", {}, ...rows));
}

function saying(state, data) {
  if (state === "answer") {
    const { words, of, threshold, probability } = summary(data);
    const said = of == null ? `${words}.` : say("answer.said", { label: words, of, probability: percent(probability, threshold) });
    const cautions = cautionsOf(data).map((each) => each.words);
    return cautions.length ? `${said} ${say("answer.said-cautions", { n: cautions.length })} ${cautions.join(" ")}` : said;
  }
  if (state === "idle") return "";
  return [...$("view").querySelectorAll("h3, .state > p")].map((each) => each.textContent).filter(Boolean).join(". ");
}
