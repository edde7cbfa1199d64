"use strict";

const $ = (selector) => document.querySelector(selector);

/** The notes on the page, by their id. */
const notes = new Map();

/** What has changed while the list is being fetched; null when it is here. */
let early = [];

/** The number of the last attempt to fetch the list. */
let attempt = 0;

function say(text) {
  $("#status").textContent = text;
}

/** Sends a request, for this version of a record if one is given. Returns the answer, or null if there is none, or if it
 * is a refusal, which the user is told. */
async function send(method, path, version, data) {
  const headers = {};
  if (version) headers["If-Match"] = `"${version}"`;
  if (data) headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(path, { method, headers, body: data && JSON.stringify(data) });
    if (answer.ok || answer.status === 412) return answer;
    const problem = await answer.json().catch(() => ({}));
    say(`The server refuses: ${problem.detail ?? answer.status}.`);
  } catch {
    say("The server cannot be reached. Nothing has been changed.");
  }
  return null;
}

/** The number of the change that made a record what it is in an answer. It is the ETag, without its quotes. */
function versionOf(answer) {
  return Number(answer.headers.get("ETag").slice(1, -1));
}

/** One note on the page. */
class Note {
  constructor(id) {
    this.id = id;
    /** The title that the server has, as far as is known. */
    this.title = "";
    /** The version that has this title; 0 if it is not known. */
    this.version = 0;
    /** The title that the text in the field was made from. */
    this.basis = "";
    this.item = $("#note").content.cloneNode(true).firstElementChild;
    this.field = this.item.querySelector("input");
    this.saveButton = this.item.querySelector(".save");
    this.deleteButton = this.item.querySelector(".delete");
    this.theirs = this.item.querySelector(".theirs");
    this.item.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    this.deleteButton.addEventListener("click", () => this.delete());
    this.field.addEventListener("focus", () => this.version || this.fetch());
    this.field.addEventListener("input", () => this.look());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.takeTheirs();
    });
  }

  isEdited() {
    return this.field.value !== this.title;
  }

  /** Whether somebody else has changed the note since the user began to edit it. */
  isBehind() {
    return this.isEdited() && this.basis !== this.title;
  }

  /** Shows what the server has. What the user is typing stays. */
  update(data, version) {
    if (version && version < this.version) return; // an answer that was on its way for longer
    const wasEdited = this.isEdited();
    // The records of other programs may have no title. They are shown as they are, and can be deleted.
    const hasTitle = typeof data.title === "string";
    this.title = hasTitle ? data.title : JSON.stringify(data);
    this.field.readOnly = !hasTitle;
    this.version = version;
    this.field.setAttribute("aria-label", `Note ${this.id}`);
    this.saveButton.setAttribute("aria-label", `Save “${this.title}”`);
    this.deleteButton.setAttribute("aria-label", `Delete “${this.title}”`);
    if (wasEdited) this.look();
    else this.takeTheirs();
  }

  takeTheirs() {
    this.field.value = this.title;
    this.look();
  }

  look() {
    if (!this.isEdited()) this.basis = this.title;
    this.saveButton.hidden = !this.isEdited();
    this.theirs.hidden = !this.isBehind();
    this.theirs.textContent = this.isBehind()
      ? `Somebody else has changed it to “${this.title}”. Save keeps yours, and Escape takes theirs.`
      : "";
  }

  async fetch() {
    const answer = await send("GET", `/data/${this.id}`);
    if (answer) this.update((await answer.json()).data, versionOf(answer));
  }

  /** Saves the text, unless somebody else has changed the note, and the user does not know. */
  async save() {
    if (!this.isEdited()) return;
    if (!this.version) {
      await this.fetch();
      if (this.isBehind()) return;
    }
    const answer = await send("PATCH", `/data/${this.id}`, this.version, { title: this.field.value });
    if (await this.isDone(answer, "The note is saved.")) {
      this.update((await answer.json()).data, versionOf(answer));
    }
  }

  async delete() {
    if (!this.version) await this.fetch();
    const answer = await send("DELETE", `/data/${this.id}`, this.version);
    if (await this.isDone(answer, "The note is deleted.")) this.remove();
  }

  /** Whether a change has been made. Tells the user. */
  async isDone(answer, text) {
    if (answer === null) return false;
    say(answer.ok ? text : "Somebody else has just changed this note. Look, and try again.");
    if (!answer.ok) await this.fetch();
    return answer.ok;
  }

  remove() {
    if (this.item.contains(document.activeElement)) {
      const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
      (next?.querySelector("input") ?? $("#title")).focus();
    }
    this.item.remove();
    notes.delete(this.id);
    $("#empty").hidden = notes.size > 0;
  }
}

/** Shows a record: a new one at its place in the list. */
function show(id, data, version) {
  if (!notes.has(id)) {
    const note = new Note(id);
    const later = [...notes.values()].filter((other) => other.id > id);
    later.sort((one, other) => one.id - other.id);
    $("#notes").insertBefore(note.item, later[0]?.item ?? null);
    $("#empty").hidden = true;
    notes.set(id, note);
  }
  notes.get(id).update(data, version);
}

/** Fetches the whole list, page by page, and then applies what has changed meanwhile. */
async function load() {
  const mine = ++attempt;
  early = [];
  const found = new Map();
  try {
    for (let page = "/data?limit=1000"; page; ) {
      const answer = await fetch(page);
      if (!answer.ok) throw new Error(`the list is refused with ${answer.status}`);
      for (const { id, data } of await answer.json()) found.set(id, data);
      page = /<([^>]*)>; rel="next"/.exec(answer.headers.get("Link") ?? "")?.[1];
    }
  } catch {
    if (mine === attempt) setTimeout(load, 2000);
    return;
  }
  if (mine !== attempt) return;
  for (const [id, note] of notes) if (!found.has(id)) note.remove();
  for (const [id, data] of found) show(id, data, 0);
  $("#empty").hidden = notes.size > 0;
  const changes = early;
  early = null;
  changes.forEach(apply);
}

function apply(change) {
  const { kind, id, data, version } = change;
  if (early) {
    early.push(change);
  } else if (kind !== "deleted") {
    show(id, data, version);
  } else if (notes.has(id)) {
    const note = notes.get(id);
    if (note.isEdited()) say(`Somebody else has deleted the note that was “${note.field.value}” here.`);
    note.remove();
  }
}

/** Watches the records. The browser reconnects by itself, and says which change it has seen last. */
function watch() {
  const source = new EventSource("/data/events");
  let isFirst = true;
  source.onopen = () => {
    $("#connection").textContent = "Connected: what others change is shown at once.";
    if (isFirst) load();
    isFirst = false;
  };
  source.onerror = () => {
    $("#connection").textContent = "Not connected. Trying again …";
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 2000); // it was refused
  };
  for (const kind of ["created", "changed", "deleted"]) {
    source.addEventListener(kind, (event) => {
      apply({ kind, ...JSON.parse(event.data), version: Number(event.lastEventId) });
    });
  }
  source.addEventListener("reset", load);
}

$("#add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await send("POST", "/data", 0, { title: $("#title").value });
  if (answer === null) return;
  $("#title").value = "";
  say("The note is added.");
});

watch();
