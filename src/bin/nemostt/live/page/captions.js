// SPDX-License-Identifier: MIT OR Apache-2.0

// The page of `nemostt live --serve`: settings in the address, a transcript, and a connection that resumes.
// What the server sends is inserted as text only, never as markup.

const root = document.documentElement;
const element = (id) => document.getElementById(id);

// ---- Settings ----

// A setting has a default, and a function that gives the value of a text, or undefined if it is not one.
const choice = (...values) => ({ fallback: values[0], parse: (text) => values.find((value) => value === text) });
const flag = (fallback) => ({ fallback, parse: (text) => (text === "1" ? true : text === "0" ? false : undefined) });
const whole = (fallback, min, max) => ({
  fallback,
  parse: (text) => (/^\d{1,4}$/.test(text) && text >= min && text <= max ? Number(text) : undefined),
});
const matching = (fallback, pattern) => ({ fallback, parse: (text) => (pattern.test(text) ? text : undefined) });

const SETTINGS = {
  size: whole(100, 50, 400),
  theme: choice("auto", "dark", "light"),
  background: choice("solid", "box", "transparent"),
  // One of the three of the style sheet, or the name of a font of this machine.
  font: matching("sans", /^[\p{L}\p{N}][\p{L}\p{N} -]{0,59}$/u),
  align: choice("start", "center", "end"),
  lines: whole(0, 0, 50),
  partials: flag(true),
  uppercase: flag(false),
  times: flag(false),
  controls: flag(true),
  // A language tag (BCP 47): screen readers choose their voice by it.
  lang: matching("", /^[a-z]{2,8}(-[a-z0-9]{1,8})*$/i),
};

// Values as they stand in the address.
const written = (value) => (typeof value === "boolean" ? String(Number(value)) : String(value));

function readSettings(get) {
  const entries = Object.entries(SETTINGS).map(([name, { fallback, parse }]) => [name, parse(get(name) ?? "") ?? fallback]);
  return Object.fromEntries(entries);
}

function applySettings(settings) {
  for (const name of ["background", "font", "align", "partials", "uppercase", "times", "controls"]) {
    root.dataset[name] = written(settings[name]);
  }
  // Over a video the system's preference says nothing.
  const overlay = settings.background !== "solid";
  root.dataset.theme = overlay && settings.theme === "auto" ? "dark" : settings.theme;
  root.dataset.lines = settings.lines ? "some" : "all";
  root.style.setProperty("--lines", settings.lines);
  root.style.setProperty("--scale", settings.size / 100);
  if (["sans", "serif", "mono"].includes(settings.font)) {
    root.style.removeProperty("--font");
  } else {
    root.style.setProperty("--font", `"${settings.font}", sans-serif`);
  }
  for (const id of ["log", "partial"]) element(id).lang = settings.lang;
  // What does not scroll is no stop for the Tab key.
  element("view").tabIndex = settings.lines ? -1 : 0;
}

// Other parameters stay, and defaults are left out.
function rememberSettings(settings) {
  const url = new URL(location.href);
  for (const [name, { fallback }] of Object.entries(SETTINGS)) {
    if (settings[name] === fallback) url.searchParams.delete(name);
    else url.searchParams.set(name, written(settings[name]));
  }
  history.replaceState(null, "", url);
}

function setUpPanel(settings, changed) {
  const panel = element("settings");
  const controls = [...panel.querySelectorAll("[name]")];
  const fill = () => {
    for (const control of controls) {
      if (control.type === "checkbox") control.checked = settings[control.name];
      else control.value = settings[control.name];
    }
  };
  const update = (get) => {
    // What the panel does not show stays as it is.
    const shown = readSettings(get);
    for (const { name } of controls) settings[name] = shown[name];
    rememberSettings(settings);
    changed(settings);
  };
  element("open-settings").addEventListener("click", () => {
    fill();
    panel.showModal();
  });
  panel.addEventListener("input", () => {
    const values = Object.fromEntries(controls.map((c) => [c.name, c.type === "checkbox" ? written(c.checked) : c.value]));
    update((name) => values[name]);
  });
  element("reset").addEventListener("click", () => {
    update(() => null);
    fill();
  });
}

// ---- The transcript ----

class Transcript {
  // Enough for two hours, and little enough for a page that is open for weeks.
  static MAX_LINES = 2000;
  // Within these pixels of the end, the reader is at the end.
  static NEAR = 24;

  #log = element("log");
  #partial = element("partial");
  #view = element("view");
  #jump = element("jump");
  #following = true;
  #scheduled = false;
  // The position to which this last scrolled.
  #end = 0;
  #session = null;
  #lastNumber = -1;
  #lastUtterance = -1;

  // The id of the last final, from which the server resumes.
  lastId = null;

  constructor() {
    this.#view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener("click", () => {
      this.#follow(true);
      this.#view.focus({ preventScroll: true });
      this.scroll();
    });
    new ResizeObserver(() => this.scroll()).observe(this.#view);
  }

  hello(session) {
    this.#setPartial("");
    if (session === this.#session) return;
    if (this.#session !== null && this.#log.childElementCount) this.#append(line("session", "— New session —"));
    this.#session = session;
    this.#lastNumber = this.#lastUtterance = -1;
    this.lastId = null;
  }

  // Whether a screen reader speaks what is appended.
  announce(on) {
    this.#log.setAttribute("aria-live", on ? "polite" : "off");
  }

  caption(id, { utterance, text, final, start }) {
    if (typeof text !== "string") return;
    if (!final) {
      if (!(utterance <= this.#lastUtterance)) this.#setPartial(text, start);
      return;
    }
    // Ids are "<session>-<number>"; after a reconnection some are sent again.
    const number = Number(id.slice(id.lastIndexOf("-") + 1));
    if (number <= this.#lastNumber) return;
    this.lastId = id;
    this.#lastNumber = number;
    this.#lastUtterance = Number(utterance);
    this.#setPartial("");
    if (text.trim()) this.#append(line("caption", text, start));
  }

  #append(child) {
    this.#log.append(child);
    if (this.#log.childElementCount > Transcript.MAX_LINES) {
      this.#log.firstElementChild.remove();
      // It may move what is below.
      this.#end = 0;
    }
    this.scroll();
  }

  #setPartial(text, start) {
    this.#partial.replaceChildren(...(text ? line("caption", text, start).childNodes : []));
    this.scroll();
  }

  #follow(following) {
    this.#following = following;
    this.#jump.hidden = following;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#view;
    // Text that came since then is no reason to stop: the next frame scrolls to it.
    const end = this.#following && this.#scheduled ? this.#end : scrollHeight - clientHeight;
    this.#follow(scrollTop > end - Transcript.NEAR);
  }

  // Scrolls to the end, unless the reader has scrolled up. Once per frame: a layout after each of a thousand lines would take
  // seconds.
  scroll() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (!this.#following) return;
      this.#view.scrollTop = this.#view.scrollHeight;
      this.#end = this.#view.scrollTop;
    });
  }
}

function line(kind, text, start) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.dir = "auto";
  if (Number.isFinite(start)) {
    const time = document.createElement("span");
    time.className = "time";
    time.textContent = clock(start);
    // Read out before every sentence, it would be in the way.
    time.setAttribute("aria-hidden", "true");
    paragraph.append(time);
  }
  const content = document.createElement("span");
  content.className = "text";
  content.textContent = text;
  paragraph.append(content);
  return paragraph;
}

function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}

// ---- Status ----

class Status {
  #output = element("status");
  #ended = false;

  show(state, text) {
    // The same words again would be read out again.
    if (this.#output.textContent !== text) this.#output.textContent = text;
    this.#output.dataset.state = state;
  }

  source({ state, message }) {
    this.#ended = state === "ended";
    const reason = typeof message === "string" && message ? `: ${message.slice(0, 200)}` : "";
    if (state === "starting") this.show("waiting", "Waiting for the first sound");
    else if (state === "listening") this.show("live", "Live");
    else if (state === "reconnecting") this.show("waiting", `Waiting for the source${reason}`);
    else if (state === "ended") this.show("ended", `The captions have ended${reason}`);
  }

  // The state of the source follows.
  connected() {
    this.#ended = false;
  }

  lost(error) {
    // A server that ends has nothing for new clients.
    if (this.#ended && !(error instanceof Refused && error.status !== 503)) return;
    if (error instanceof Refused) this.show("refused", error.message);
    else this.show("waiting", "The connection is lost, trying again");
  }
}

// ---- The connection ----

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Not an EventSource: that gives up after an HTTP error, cannot send the token in a header, and does not notice a connection
// that is silently dead.
class Connection {
  static FIRST_PAUSE = 500;
  static LONGEST_PAUSE = 10_000;
  // The server sends a comment every ten seconds.
  static LONGEST_SILENCE = 25_000;
  // Far more than a caption: without a limit, a stream with no end of line would fill the memory.
  static LONGEST_LINE = 1 << 20;

  #pause = Connection.FIRST_PAUSE;
  #wake = () => {};

  constructor(token, lastId, handlers) {
    this.headers = () => ({
      Accept: "text/event-stream",
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(lastId() && { "Last-Event-ID": lastId() }),
    });
    this.handlers = handlers;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
  }

  async run() {
    for (;;) {
      const error = await this.#stream().catch((error) => error);
      this.handlers.lost(error);
      // Half of it by chance, so that a restarted server does not meet all clients at once.
      const pause = this.#pause * (0.5 + Math.random() / 2);
      this.#pause = Math.min(this.#pause * 2, Connection.LONGEST_PAUSE);
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  }

  async #stream() {
    const controller = new AbortController();
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), Connection.LONGEST_SILENCE);
    };
    alive();
    try {
      const response = await fetch("events", { headers: this.headers(), cache: "no-store", signal: controller.signal });
      if (!response.ok) throw await refusal(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const events = new EventParser((type, id, data) => this.#dispatch(type, id, data));
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return undefined;
        alive();
        events.push(value);
      }
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
  }

  #dispatch(type, id, data) {
    const handler = Object.hasOwn(this.handlers.events, type) && this.handlers.events[type];
    if (!handler) return;
    let content;
    try {
      content = JSON.parse(data);
    } catch {
      console.warn(`nemostt: the data of ${type} ${id} is not JSON`);
      return;
    }
    if (content === null || typeof content !== "object") return;
    if (type === "hello") this.#pause = Connection.FIRST_PAUSE;
    handler(content, id);
  }
}

async function refusal(response) {
  const { status } = response;
  // It says what to do, to those who started nemostt.
  const text = (await response.text()).trim().slice(0, 300);
  if (status === 401) return new Refused(status, "A token is needed: open the address that nemostt printed");
  return new Refused(status, text ? `Refused: ${text}` : `Refused with status ${status}`);
}

// The event stream format of the HTML standard, without "retry".
class EventParser {
  #rest = "";
  #type = "";
  #id = "";
  #data = [];

  constructor(dispatch) {
    this.dispatch = dispatch;
  }

  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    if (this.#rest.length > Connection.LONGEST_LINE) throw new Error("a line of the event stream is too long");
    for (const line of lines) this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length) this.dispatch(this.#type || "message", this.#id, this.#data.join("\n"));
      this.#type = "";
      this.#data = [];
      return;
    }
    const [, field, value] = line.match(/^([^:]*):? ?(.*)$/s);
    if (field === "event") this.#type = value;
    else if (field === "id") this.#id = value;
    else if (field === "data") this.#data.push(value);
  }
}

// The token leaves the address bar, where it would be seen and shared, and stays in this tab, so that a reload works.
function takeToken() {
  const url = new URL(location.href);
  const token = url.searchParams.get("token");
  try {
    if (token === null) return sessionStorage.getItem("nemostt-token");
    sessionStorage.setItem("nemostt-token", token);
  } catch {
    // Without storage, it must stay in the address.
    return token;
  }
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
  return token;
}

// ---- All together ----

const parameters = new URLSearchParams(location.search);
const settings = readSettings((name) => parameters.get(name));
const transcript = new Transcript();
const status = new Status();

const apply = () => {
  applySettings(settings);
  transcript.scroll();
};
apply();
setUpPanel(settings, apply);

let isFirst = true;
// That of the page, and what the server sends for captions without a name.
const DEFAULT_TITLE = document.title;
const connection = new Connection(takeToken(), () => transcript.lastId, {
  lost: (error) => status.lost(error),
  events: {
    hello: ({ session, title }) => {
      transcript.hello(String(session));
      if (typeof title === "string" && title) {
        element("title").textContent = title;
        document.title = title === DEFAULT_TITLE ? title : `${title} – live captions`;
      }
      status.connected();
    },
    caption: (caption, id) => transcript.caption(id, caption),
    status: (content) => {
      status.source(content);
      // The first one comes after what was kept: ten minutes that are there to be read, not to be spoken. A browser tells screen
      // readers of new lines a little later.
      if (isFirst) setTimeout(() => transcript.announce(true), 1000);
      isFirst = false;
    },
  },
});
status.show("waiting", "Connecting");
connection.run();
