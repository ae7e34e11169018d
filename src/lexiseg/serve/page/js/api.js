// The server, as it answers: JSON, planes, events; every refusal is one clear line.

import { tell } from "./state.js";

const BASE = "/api/v1";
const GONE =
  "The server does not answer; is lexiseg serve still running? " +
  "What it saved is kept; the page goes on when it is back.";

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(line, status) {
    super(line);
    this.name = "Refused";
    this.status = status;
  }
}

let gone = false;

/** Ask once a second until the server is back, then tell everybody. */
async function wait() {
  if (gone) return;
  gone = true;
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000));
    try {
      const reply = await fetch("/healthz");
      if (reply.ok) break;
    } catch {
      // Not yet.
    }
  }
  gone = false;
  tell("back");
}

async function reach(path, options = {}) {
  let reply;
  try {
    reply = await fetch(BASE + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    wait();
    throw new Refused(GONE, 0);
  }
  if (!reply.ok) throw new Refused(await lineOf(reply), reply.status);
  return reply;
}

async function lineOf(reply) {
  return refusal(await reply.text().catch(() => ""), reply.status);
}

function refusal(text, status) {
  try {
    const said = JSON.parse(text);
    if (typeof said.error === "string") return said.error;
  } catch {
    // Not the server's own answer, a proxy's perhaps.
  }
  if (status === 401)
    return "The server does not know this page; open the address that lexiseg serve printed, with its token.";
  return `The server answered ${status}, and did not say why.`;
}

export async function get(path) {
  return (await reach(path)).json();
}

export async function send(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const reply = await reach(path, options);
  return reply.status === 204 ? null : reply.json();
}

/** A plane's values. */
export async function plane(scan, axis, k) {
  const reply = await reach(`/scans/${scan.id}/planes/${encodeURIComponent(axis)}/${k}`);
  const buffer = await reply.arrayBuffer();
  const height = Number(reply.headers.get("X-Height"));
  const width = Number(reply.headers.get("X-Width"));
  const expected = width * height * (scan.colour ? 3 : 2);
  if (buffer.byteLength !== expected) {
    throw new Refused(`The plane came with ${buffer.byteLength} bytes, expected ${expected}; reload the page.`, 502);
  }
  return { data: scan.colour ? new Uint8Array(buffer) : new Uint16Array(buffer), height, width, colour: scan.colour };
}

/** A file to keep: its bytes and its name. */
export async function file(path) {
  const reply = await reach(path);
  const told = reply.headers.get("Content-Disposition") ?? "";
  // The plain name may have lost letters, and has no escapes.
  const whole = /filename\*=UTF-8''([^;]+)/i.exec(told);
  const name = whole ? decodeURIComponent(whole[1]) : /filename="([^"]+)/i.exec(told)?.[1];
  return { blob: await reply.blob(), name: name ?? "lexiseg" };
}

/** Send files; `progress` is called with the share sent. */
export function upload(files, progress) {
  const form = new FormData();
  for (const { file: each, name } of files) form.append("files", each, name);
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${BASE}/scans`);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) done(JSON.parse(request.responseText));
      else failed(new Refused(refusal(request.responseText, request.status), request.status));
    });
    // A server that refuses too many bytes may close the line before it has read them all.
    request.addEventListener("error", () =>
      failed(new Refused("The upload was cut off; is it larger than the server takes, or did the server stop?", 0)),
    );
    request.send(form);
  });
}

/**
 * Follow a job to its end.
 * @param {(event: object) => void} heard called with each event.
 * @param {AbortSignal} signal stops listening, which cancels the job.
 * @returns the last event; a job that failed is thrown.
 */
export async function follow(job, heard, signal) {
  const reply = await reach(`/jobs/${job}/events`, { signal, headers: { Accept: "text/event-stream" } });
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    rest += decoder.decode(value, { stream: true }).replaceAll("\r\n", "\n");
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trim());
      if (!data.length) continue;
      last = JSON.parse(data.join("\n"));
      heard(last);
    }
  }
  if (last?.error) throw new Refused(last.error, 422);
  if (!last || !["done", "cancelled"].includes(last.state)) throw new Refused("The answer was cut off; ask again.", 0);
  return last;
}
