// What the page asks its server, and what can come of it. Nothing here touches the document.

// A server that has not said anything by then is taken for gone, in milliseconds.
const READY_PATIENCE = 5000;
const ASK_WHEN_WELL = 10000;
const ASK_WHEN_GONE = 2000;

// In memory only: it is gone with the page.
let token = "";

/** Send this token with every request from now on. */
export function useToken(given) {
  token = given;
}

function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  return fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", ...options, headers });
}

/** `{state, failed, reason}`: "ready", "starting" (the self-test runs, or `failed`, as `reason` says) or "gone". */
export async function readiness() {
  try {
    const response = await ask("ready", { signal: AbortSignal.timeout(READY_PATIENCE) });
    const said = parsed(await response.text());
    return { state: response.ok ? "ready" : "starting", failed: said.state === "failed", reason: said.reason ?? "" };
  } catch {
    return { state: "gone", failed: false, reason: "" };
  }
}

/** Ask for ever whether the server is there, more often while it is not; tells every time. Returns a way to ask now. */
export function watchServer(tell) {
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    const found = await readiness();
    clearTimeout(timer);
    timer = setTimeout(look, found.state === "ready" ? ASK_WHEN_WELL : ASK_WHEN_GONE);
    tell(found);
  };
  look();
  return look;
}

/** The models and the largest file taken, in bytes: `{models, limit}`; "token" where it asks for one, null for no answer. */
export async function modelInfo() {
  try {
    const response = await ask("model/info", { signal: AbortSignal.timeout(READY_PATIENCE) });
    if (response.status === 401) return "token";
    if (!response.ok) return null;
    const said = await response.json();
    return { models: said.models, limit: said.limits.max_body_bytes };
  } catch {
    return null;
  }
}

/**
 * Ask for the answer to one picture.
 *
 * Returns `{came, ...}` with `came` one of: "answer" (and the `answer`), "refused", "unreadable", "large", "slow" and
 * "failed" (each with the server's `message`, its `kind`, and of a picture `why`, `{code, values}`, and the `preview`
 * of a refused one), "busy" (with `after`, seconds), "away" (it starts or ends), "token", "gone" (no connection) and
 * "cancelled".
 */
export async function predict(bytes, { model, preview, signal }) {
  const query = new URLSearchParams({ explain: "true", preview: String(preview) });
  if (model) query.set("model", model);
  const headers = { "Content-Type": "application/octet-stream" };
  let response, text;
  try {
    response = await ask(`predict?${query}`, { method: "POST", body: bytes, headers, signal });
    text = await response.text();
  } catch {
    return { came: signal.aborted ? "cancelled" : "gone" };
  }
  const said = parsed(text);
  if (response.ok && said.probabilities) return { came: "answer", answer: said };
  return { came: CAME[said.error?.kind] ?? "failed", message: said.error?.message ?? "", kind: said.error?.kind ?? "",
    why: said.error?.why ?? null, preview: said.preview ?? null, after: secondsOf(response.headers.get("Retry-After")) };
}

// The server's kinds of failure; whatever is not named here is nothing the person at the page can mend.
const CAME = { refused: "refused", unreadable: "unreadable", too_large: "large", busy: "busy", not_ready: "away",
  stopping: "away", token: "token", timeout: "slow", slow_body: "slow" };

function parsed(text) {
  try { return JSON.parse(text) ?? {}; } catch { return {}; }
}

function secondsOf(header) {
  const seconds = Number.parseInt(header ?? "", 10);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 60) : 2;
}
