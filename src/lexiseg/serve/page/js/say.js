// One line to the person at the screen: an error that stays until it is closed, or a note that passes.

import { $, el } from "./dom.js";

let timer = 0;

/** An error: said at once, kept until closed or until the next one. */
export function complain(error) {
  const line = error instanceof Error ? error.message : String(error);
  // A fault of the page itself is worth its trace in the console; an answer of the server says all in its line.
  if (error instanceof Error && !error.status && error.name !== "Refused") console.error(error);
  $("#alert-text").textContent = line;
  $("#alert").hidden = false;
}

export function calm() {
  $("#alert").hidden = true;
  $("#alert-text").textContent = "";
}

/** A note: read out politely, gone after a while. */
export function note(line, seconds = 4) {
  const place = $("#note");
  place.textContent = line;
  place.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => {
    place.classList.remove("shown");
    place.textContent = "";
  }, seconds * 1000);
}

let working = 0;

/** Show that the server works while a promise is open; at once would flicker, so after a third of a second. */
export async function busy(promise) {
  working += 1;
  const wait = setTimeout(() => $("#busy").classList.add("shown"), 300);
  try {
    return await promise;
  } finally {
    clearTimeout(wait);
    working -= 1;
    if (!working) $("#busy").classList.remove("shown");
  }
}

/** Ask once more before something goes that no undo brings back. */
export function sure(question, yes) {
  const dialog = $("#sure");
  const answer = (value) =>
    el("button", {
      class: value ? "button primary" : "button",
      value: value ? "yes" : "no",
      text: value ? yes : "Cancel",
    });
  dialog.replaceChildren(
    el("h2", { id: "sure-title", text: question }),
    el("form", { method: "dialog", class: "row end" }, answer(false), answer(true)),
  );
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}
