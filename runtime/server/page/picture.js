// The picture chosen, and the heat map laid over it.

import { $ } from "./dom.js";
import { say, size } from "./words.js";

// Matplotlib's inferno (van der Walt and Smith, 2015) without its darkest quarter: lightness rises evenly, so that it
// is read in the right order in grey, on paper and by the colour blind.
const INFERNO = [[87, 16, 110], [125, 30, 109], [163, 44, 97], [199, 62, 76], [228, 90, 49], [246, 128, 19],
  [252, 172, 17], [245, 219, 76], [252, 255, 164]];
// The longest side of the heat map as it is drawn, in pixels; the map itself is coarser.
const HEAT_SIDE = 512;

let address = "";
let shown = null; // { name, bytes, drawn: whether by the server, label: of the heat map, framed }

/** Show a file as far as the browser can; false where it cannot, and the server has to draw it. */
export async function showFile(file) {
  forgetPicture();
  shown = { name: file.name, bytes: file.size, drawn: false, label: null, framed: false };
  const mine = shown;
  address = URL.createObjectURL(file);
  const drawn = await draw(address);
  if (mine !== shown) return false;
  $("stage").dataset.shown = drawn ? "picture" : "nothing";
  $("preview").hidden = !drawn;
  $("stage").querySelector(".unseeable").hidden = drawn;
  tellPicture();
  return drawn;
}

/** Show the server's picture of the file instead: all of it, as the model's own rendering has it. */
export async function showDrawn(base64) {
  const mine = shown;
  const drawn = await draw(`data:image/png;base64,${base64}`);
  if (mine !== shown || !drawn) return;
  shown.drawn = true;
  $("stage").dataset.shown = "picture";
  $("preview").hidden = false;
  $("stage").querySelector(".unseeable").hidden = true;
  tellPicture();
}

async function draw(source) {
  const preview = $("preview");
  preview.src = source;
  try {
    await preview.decode();
    return true;
  } catch {
    return false;
  }
}

/** Lay the heat map, 8-bit grey, over the part of the picture that `model` saw. */
export async function showHeat(base64, label, model) {
  const mine = shown;
  const grey = new Image();
  grey.src = `data:image/png;base64,${base64}`;
  try { await grey.decode(); } catch { return; }
  if (mine !== shown) return;
  const preview = $("preview");
  const canvas = $("heat");
  const scale = HEAT_SIDE / Math.max(preview.naturalWidth, preview.naturalHeight);
  canvas.width = Math.max(1, Math.round(preview.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(preview.naturalHeight * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const seen = fieldOf(model, preview.naturalWidth, preview.naturalHeight);
  const at = [seen.left * canvas.width, seen.top * canvas.height, seen.width * canvas.width, seen.height * canvas.height];
  context.drawImage(grey, ...at);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  colour(pixels.data);
  context.putImageData(pixels, 0, 0);
  shown.label = label;
  shown.framed = seen.width < 1 || seen.height < 1;
  if (shown.framed) {
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.setLineDash([8, 6]);
    context.strokeRect(...at);
  }
  $("heat-controls").hidden = false;
  drawLegend();
  setHeat();
  tellPicture();
}

const WHOLE = { left: 0, top: 0, width: 1, height: 1 };

// Where in a picture the network's input lies, in parts of the picture's width and height; see Preprocessing.
function fieldOf({ fit, shorter_side: shorter, size: [height, width] }, wide, high) {
  if (fit === "stretch") return WHOLE;
  const scale = fit === "crop" ? shorter / Math.min(wide, high) : Math.min(width / wide, height / high);
  const [across, down] = [width / (wide * scale), height / (high * scale)];
  return { left: (1 - across) / 2, top: (1 - down) / 2, width: across, height: down };
}

// Grey to colour, in place; what is nothing lets the picture through.
function colour(data) {
  for (let i = 0; i < data.length; i += 4) {
    const level = data[i];
    const place = (level / 255) * (INFERNO.length - 1);
    const below = Math.min(Math.floor(place), INFERNO.length - 2);
    for (let c = 0; c < 3; c += 1) data[i + c] = INFERNO[below][c] + (place - below) * (INFERNO[below + 1][c] - INFERNO[below][c]);
    data[i + 3] = (level / 255) ** 1.3 * 255 * (data[i + 3] / 255);
  }
}

function drawLegend() {
  const canvas = $("legend");
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data[i] = (((i / 4) % canvas.width) / (canvas.width - 1)) * 255;
    pixels.data[i + 3] = 255;
  }
  colour(pixels.data);
  context.putImageData(pixels, 0, 0);
}

/** Follow the switch and the slider. */
export function setHeat() {
  $("heat").hidden = shown?.label == null || !$("heat-shown").checked;
  $("heat").style.opacity = $("opacity").value / 100;
  $("opacity").disabled = !$("heat-shown").checked;
}

/** Take the heat map away: the answer it belonged to is no longer there. */
export function forgetHeat() {
  if (shown) Object.assign(shown, { label: null, framed: false });
  $("heat-controls").hidden = true;
  $("heat").hidden = true;
  tellPicture();
}

/** Take the picture away. */
export function forgetPicture() {
  if (address) URL.revokeObjectURL(address);
  address = "";
  shown = null;
  const preview = $("preview");
  preview.removeAttribute("src");
  preview.hidden = true;
  $("stage").dataset.shown = "";
  $("stage").querySelector(".unseeable").hidden = true;
  forgetHeat();
}

/** Caption and descriptions, in the page's language. */
export function tellPicture() {
  const { name, bytes, drawn, label, framed } = shown ?? {};
  const said = shown ? [say("picture.caption", { name, size: size(bytes) }), drawn ? say("picture.drawn") : ""] : [];
  $("caption").textContent = said.filter(Boolean).join(" · ");
  $("preview").alt = !shown ? "" : label == null ? say("picture.alt", { name }) : say("picture.alt-heat", { name, label });
  $("heat-note").textContent = label == null ? "" : [say("heat.note", { label }), framed ? say("heat.frame") : ""].join(" ");
}
