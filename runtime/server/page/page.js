// The page: a picture is chosen, the server is asked, what comes of it is shown.

import { $, make } from "./dom.js";
import { droppedFiles, picturesOf, watchFolder } from "./files.js";
import { clearHistory, drawHistory, note } from "./history.js";
import { forgetHeat, forgetPicture, setHeat, showDrawn, showFile, showHeat, tellPicture } from "./picture.js";
import { modelInfo, predict, readiness, useToken, watchServer } from "./server.js";
import { announce, redraw, show } from "./view.js";
import { keep, kept, LANGUAGES, loadWords, preferredLanguage, say, speak, time } from "./words.js";

// Connections that break while the server says it is well, before the page gives up.
const BREAKS = 3;
const SERVER_WORDS = { ready: "server.ready", starting: "server.starting", gone: "server.gone" };

let info = null; // what the server said of itself: { models, limit }
let server = { state: "", reason: "" };
let lookAtServer = () => {};
let files = []; // the pictures chosen, and which of them is shown
let at = -1;
let job = null; // the asking in progress: { file, control, since }
let watched = null; // { name, stop }
let tokenWasGiven = false;
let absence = ""; // the reason that is shown for a server that is not ready
let wakeUp = () => {}; // ends the waiting for a server that was gone

// ---- one picture

async function ask(file) {
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
  const limit = info?.limit ?? Infinity;
  if (!file.size) return end(mine, "empty");
  if (file.size > limit) return end(mine, "large", { bytes: file.size, limit });
  let bytes;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    return current() && end(mine, "lost");
  }
  let broken = 0;
  while (current()) {
    const model = $("model").value;
    const result = await predict(bytes, { model, preview: !visible, signal: mine.control.signal });
    if (!current()) return;
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
      default: return end(mine, result.came, result);
    }
    if (current()) show("waiting", { since: mine.since }, { cancel });
  }
}

function end(mine, state, data = {}) {
  job = null;
  show(state, data, { again: () => ask(mine.file) });
  note(mine.file.name, $("model").value, { title: `${state}.title` });
}

async function answered(mine, answer) {
  if (answer.preview) await showDrawn(answer.preview);
  if (job !== mine) return;
  job = null;
  show("answer", answer);
  note(mine.file.name, answer.model, { answer });
  if (answer.heat) showHeat(answer.heat, answer.explained, info?.models.find((model) => model.name === answer.model));
  // On a phone the answer stands below the picture.
  if ($("view").getBoundingClientRect().top > innerHeight / 2) $("answer").scrollIntoView();
}

function cancel() {
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
function showAbsence({ state, reason }) {
  if (state === "ready" || (document.body.dataset.state === state && reason === absence)) return;
  absence = reason;
  show(state, { reason }, { cancel });
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
  const before = server.state;
  const { state } = found;
  server = found;
  if (["gone", "starting"].includes(document.body.dataset.state)) showAbsence(found);
  $("server").dataset.state = state;
  $("server-word").dataset.word = SERVER_WORDS[state];
  $("server-word").textContent = say(SERVER_WORDS[state]);
  drawAbsence();
  if (state !== "ready") return;
  if (before === "gone" && !job) announce(say("server.back"));
  // Another one may have been started in its place, with other models.
  if (before !== "ready" && (await learn()) === "token" && !job) {
    while ((await askForToken()) === "token" && !job);
    if (!job) show("idle");
  }
  wakeUp();
}

// While a picture waits, its own panel says it.
function drawAbsence() {
  $("absent").hidden = server.state !== "gone" || Boolean(job);
}

async function learn() {
  const said = await modelInfo();
  if (!said || said === "token") return said;
  info = said;
  const names = info.models.map((model) => model.name);
  const select = $("model");
  const chosen = names.includes(select.value) ? select.value : names[0];
  select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  select.value = chosen ?? "";
  $("model-choice").hidden = names.length < 2;
  return info;
}

// ---- several pictures

function take(chosen) {
  if (!chosen.length) return;
  files = [...chosen];
  open(0);
}

function open(index) {
  at = index;
  drawList();
  ask(files[at]);
}

function drawList() {
  $("list").hidden = files.length < 2;
  const entry = (file, i) => make("option", { value: String(i) }, say("list.entry", { at: i + 1, of: files.length, name: file.name }));
  $("entries").replaceChildren(...files.map(entry));
  $("entries").value = String(at);
  $("previous").disabled = at <= 0;
  $("next").disabled = at >= files.length - 1;
}

async function startWatching() {
  let folder;
  try {
    folder = await showDirectoryPicker({ id: "camera", mode: "read" });
  } catch {
    return; // closed without a choice
  }
  stopWatching();
  const stop = watchFolder(folder, {
    atStart: (found) => { if (found.length && !job) { files = found; open(found.length - 1); } },
    arrived: (found) => {
      files = [...files, ...found];
      if (job) drawList();
      else open(files.length - 1);
    },
    lost: () => {
      announce(say("folder.lost", { name: folder.name }));
      stopWatching();
    },
  });
  watched = { name: folder.name, stop };
  drawWatched();
}

function stopWatching() {
  watched?.stop();
  watched = null;
  drawWatched();
}

function drawWatched() {
  $("watching").hidden = !watched;
  $("watching-word").textContent = watched ? say("folder.watching", { name: watched.name }) : "";
  $("watch").hidden = Boolean(watched) || !("showDirectoryPicker" in window);
}

function removePicture() {
  if (job) cancel();
  files = [];
  at = -1;
  drawList();
  forgetPicture();
  $("remove").hidden = true;
  show("idle");
  $("choose").focus();
}

// ---- the page itself

function chooseLanguage(code) {
  speak(code);
  for (const draw of [redraw, drawHistory, drawList, drawWatched, tellPicture]) draw();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", String(isDark()));
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function listenToDrops() {
  let depth = 0;
  const over = (change) => { depth = Math.max(0, depth + change); $("dropping").hidden = !depth; };
  addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over(-depth);
    const found = await droppedFiles(event.dataTransfer);
    if (found.length) take(found);
    else announce(say("folder.empty"));
  });
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("choose", "click", () => $("file").click());
  on("choose-folder", "click", () => $("folder").click());
  for (const [id, filter] of [["file", (all) => [...all]], ["folder", picturesOf]]) {
    on(id, "change", (event) => {
      const found = filter(event.target.files);
      if (!found.length) announce(say("folder.empty"));
      take(found);
      event.target.value = ""; // the same file can be chosen again
    });
  }
  on("watch", "click", startWatching);
  on("unwatch", "click", () => { stopWatching(); $("watch").focus(); });
  on("remove", "click", removePicture);
  on("previous", "click", () => open(at - 1));
  on("next", "click", () => open(at + 1));
  on("entries", "change", (event) => open(Number(event.target.value)));
  on("model", "change", () => { if (at >= 0) ask(files[at]); });
  on("heat-shown", "change", setHeat);
  on("opacity", "input", setHeat);
  on("clear", "click", () => { clearHistory(); announce(say("history.cleared")); $("choose").focus(); });
  on("print", "click", () => print());
  on("theme", "click", () => { setTheme(isDark() ? "light" : "dark"); keep("theme", document.documentElement.dataset.theme); });
  on("language", "change", (event) => { keep("language", event.target.value); chooseLanguage(event.target.value); });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && job) cancel(); });
  addEventListener("beforeprint", () => { $("printed").textContent = say("page.printed", { time: time(new Date(), true) }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());
  listenToDrops();
}

async function start() {
  setTheme(kept("theme"));
  await loadWords();
  const code = preferredLanguage();
  $("language").replaceChildren(...Object.entries(LANGUAGES).map(([each, name]) => make("option", { value: each, lang: each }, name)));
  $("language").value = code;
  chooseLanguage(code);
  show("idle");
  listen();
  drawWatched();
  lookAtServer = watchServer(serverSaid);
}

start();
