// The page: pictures are chosen, one after the other is asked about; language, colours, and what is listened to.

import { ask, cancel, followServer, isAsking } from "./asking.js";
import { $, make } from "./dom.js";
import { droppedFiles, picturesOf, watchFolder } from "./files.js";
import { clearHistory, drawHistory } from "./history.js";
import { forgetPicture, setHeat, tellPicture } from "./picture.js";
import { announce, redraw, show } from "./view.js";
import { keep, kept, LANGUAGES, loadWords, preferredLanguage, say, speak, time } from "./words.js";

// A folder that is watched for months leaves no longer a list than this.
const MOST = 500;

let files = []; // the pictures chosen, and which of them is shown
let at = -1;
let unread = 0; // how many at the end of the list came into the watched folder and were not asked about yet
let watched = null; // { name, stop }

// ---- several pictures

function take(chosen) {
  if (!chosen.length) return tell(say("folder.empty"));
  files = [...chosen];
  unread = 0;
  open(0);
}

function open(index) {
  at = index;
  tell("");
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
    atStart: (found) => { if (found.length && !isAsking()) { take(found); } },
    arrived,
    lost: () => {
      tell(say("folder.lost", { name: folder.name }));
      stopWatching();
    },
  });
  watched = { name: folder.name, stop };
  drawWatched();
}

function arrived(found) {
  const all = [...files, ...found];
  files = all.slice(-MOST);
  at -= all.length - files.length;
  unread = Math.min(unread + found.length, files.length);
  drawList();
  readNext();
}

// In the order they came, so that each is in the list of answers.
function readNext() {
  if (!unread || isAsking()) return;
  unread -= 1;
  open(files.length - unread - 1);
}

function tell(words) {
  $("notice").textContent = words;
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
  if (isAsking()) cancel();
  files = [];
  unread = 0;
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
    take(await droppedFiles(event.dataTransfer));
  });
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("choose", "click", () => $("file").click());
  on("stage", "click", () => { if (at < 0) $("file").click(); });
  on("choose-folder", "click", () => $("folder").click());
  for (const [id, filter] of [["file", (all) => [...all]], ["folder", picturesOf]]) {
    on(id, "change", (event) => {
      take(filter(event.target.files));
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
  addEventListener("keydown", (event) => { if (event.key === "Escape" && isAsking()) cancel(); });
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
  followServer(readNext);
}

start();
