// The asking in progress: one picture, sent until there is an answer or a reason why not; and how the server fares.

import { $, make } from "./dom.js";
import { note } from "./history.js";
import { forgetHeat, showDrawn, showFile, showHeat } from "./picture.js";
import { modelInfo, predict, readiness, useToken, watchServer } from "./server.js";
import { announce, show } from "./view.js";
import { say } from "./words.js";

// Connections that break while the server says it is well, before the page gives up.
const BREAKS = 3;
const SERVER_WORDS = { ready: "server.ready", starting: "server.starting", gone: "server.gone" };

let info = null; // what the server said of itself: { models, limit }
let server = "";
let lookAtServer = () => {};
let job = null; // { file, control, since }
let ended = () => {};
let tokenWasGiven = false;
let absence = ""; // the reason that is shown for a server that is not ready
let wakeUp = () => {}; // ends the waiting for a server that was gone

/** Ask the server again and again how it is, and show it; `whenEnded` is called after every picture that was not cancelled. */
export function followServer(whenEnded) {
  ended = whenEnded;
  lookAtServer = watchServer(serverSaid);
}

/** Whether a picture is being asked about. */
export function isAsking() {
  return job !== null;
}

/** Ask about a picture, instead of whatever was asked before. */
export async function ask(file) {
  job?.control.abort();
  const mine = { file, control: new AbortController(), since: Date.now() };
  job = mine;
  drawAbsence();
  const current = () => job === mine;
  forgetHeat();
  show("waiting", { since: mine.since }, { cancel });
  $("remove").hidden = false;
  const visible = await showFile(file);
  if (!current()) return;
  if (!file.size) return end(mine, "empty");
  let bytes = null;
  let broken = 0;
  while (current()) {
    // A picture can be dropped before the server said which models there are, and how large a file it takes.
    const known = info ?? (await learn());
    if (!current()) return;
    let result = { came: known === "token" ? "token" : "away" };
    if (info) {
      if (file.size > info.limit) return end(mine, "large", { bytes: file.size, limit: info.limit });
      try {
        bytes ??= await file.arrayBuffer();
      } catch {
        return current() && end(mine, "lost");
      }
      result = await predict(bytes, { model: $("model").value, preview: !visible, signal: mine.control.signal });
      if (!current()) return;
    }
    switch (result.came) {
      case "answer": return answered(mine, result.answer);
      case "busy":
        show("busy", result, { cancel });
        await pause(result.after * 1000);
        break;
      case "token":
        await askForToken();
        break;
      case "away":
        await untilReady();
        break;
      case "gone":
        if ((await readiness()).state === "ready" && (broken += 1) >= BREAKS) return current() && end(mine, "failed");
        if (current()) await untilReady();
        break;
      default:
        if (result.preview) await showDrawn(result.preview);
        return current() && end(mine, result.came, result);
    }
    if (current()) show("waiting", { since: mine.since }, { cancel });
  }
}

function end(mine, state, data = {}) {
  job = null;
  show(state, data, { again: () => ask(mine.file) });
  note(mine.file.name, $("model").value, { title: `${state}.title` });
  reveal();
  ended();
}

async function answered(mine, answer) {
  if (answer.preview) await showDrawn(answer.preview);
  if (job !== mine) return;
  job = null;
  show("answer", answer);
  note(mine.file.name, answer.model, { answer });
  const model = info?.models.find((each) => each.name === answer.model);
  if (answer.heat && model) showHeat(answer.heat, answer.explained, model);
  reveal();
  ended();
}

// On a phone the answer stands below the picture.
function reveal() {
  if ($("view").getBoundingClientRect().top > innerHeight / 2) $("answer").scrollIntoView();
}

/** Give up on the picture that is being asked about. */
export function cancel() {
  const { file, control } = job;
  job = null;
  control.abort();
  wakeUp();
  show("cancelled", {}, { again: () => ask(file) });
  note(file.name, $("model").value, { title: "cancelled.title" });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function untilReady() {
  const woken = new Promise((resolve) => { wakeUp = resolve; });
  showAbsence(await readiness());
  await pause(300);
  lookAtServer();
  await woken;
}

// In the panel of the picture that waits; without one it is a line at the top. Drawn anew only when it is another.
function showAbsence({ state, failed, reason }) {
  if (state === "ready" || (document.body.dataset.state === state && reason === absence)) return;
  absence = reason;
  show(state, { failed, reason }, { cancel });
}

async function askForToken() {
  useToken(await new Promise((resolve) => {
    show("token", { wrong: tokenWasGiven }, { token: resolve });
    $("token").focus();
  }));
  tokenWasGiven = true;
  return learn();
}

// ---- the server

async function serverSaid(found) {
  const before = server;
  server = found.state;
  if (["gone", "starting"].includes(document.body.dataset.state)) showAbsence(found);
  $("server").dataset.state = server;
  $("server-word").dataset.word = SERVER_WORDS[server];
  $("server-word").textContent = say(SERVER_WORDS[server]);
  drawAbsence();
  if (server !== "ready") return;
  if (before === "gone" && !job) announce(say("server.back"));
  // Every time: another server may have been started in its place, with other models.
  if ((await learn()) === "token" && !job && document.body.dataset.state !== "token") {
    while ((await askForToken()) === "token" && !job);
    if (!job) show("idle");
  }
  wakeUp();
}

// While a picture waits, its own panel says it.
function drawAbsence() {
  $("absent").hidden = server !== "gone" || Boolean(job);
}

async function learn() {
  const said = await modelInfo();
  if (!said || said === "token") return said;
  info = said;
  const names = info.models.map((model) => model.name);
  const select = $("model");
  if (names.join("\n") !== [...select.options].map((each) => each.value).join("\n")) {
    const chosen = names.includes(select.value) ? select.value : names[0];
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.value = chosen;
    $("model-choice").hidden = names.length < 2;
  }
  return info;
}
