// What the page is made from: facts that are here at once, and pieces that are fetched (or unpacked) when needed.

const page = JSON.parse(document.getElementById("facts").textContent);

const blocks = new Map();

/** Bytes of a piece: asked of the server, or read out of the file itself. */
async function piece(recording, stream, number) {
  const name = `${recording}/${stream}`;
  if (page.served) {
    const answer = await fetch(`/${name}/${number}`);
    if (!answer.ok) throw new Error(await answer.text());
    return new Uint8Array(await answer.arrayBuffer());
  }
  if (!blocks.has(name)) blocks.set(name, document.getElementById(name).textContent.split("\n"));
  const text = atob(blocks.get(name)[number]);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Promises by key, the least recently used forgotten first; failures are not kept. */
class Cache {
  constructor(limit, load) {
    this.limit = limit;
    this.load = load;
    this.entries = new Map();
  }

  get(key) {
    let entry = this.entries.get(key);
    if (entry) this.entries.delete(key);
    else {
      entry = this.load(key);
      entry.catch(() => this.entries.delete(key));
    }
    this.entries.set(key, entry);
    if (this.entries.size > this.limit) this.entries.delete(this.entries.keys().next().value);
    return entry;
  }
}

/** One recording. Its rows are counted from 0; step numbers begin at `first`, which for a fork is not 0. */
class Recording {
  constructor(facts, index) {
    Object.assign(this, facts);
    this.index = index;
    this.first = facts.first_step;
    this.end = this.first + facts.n_steps;
    this.letter = "AB"[index];
    this.numbers = null;
    const type = page.served ? "image/png" : "image/webp";
    this.pictures = new Cache(120, async (key) => {
      const [stream, row] = key.split("/");
      return createImageBitmap(new Blob([await piece(index, stream, row)], { type }));
    });
    this.chunks = new Cache(48, async (key) => {
      const [stream, number] = key.split("/");
      return inflate(await piece(index, stream, number));
    });
  }

  has(row) {
    return row >= 0 && row < this.n_steps;
  }

  picture(stream, row) {
    return this.pictures.get(`${stream}/${row}`);
  }

  /** Keys as bits, camera, value, log-probability, entropy; all of them, four bytes a step and column. */
  async load() {
    const buffer = await inflate(await piece(this.index, "columns", 0));
    const numbers = {};
    this.columns.forEach((name, i) => {
      const Kind = name === "executed" || name === "chosen" ? Uint32Array : Float32Array;
      numbers[name] = new Kind(buffer, 4 * i * this.n_steps, this.n_steps);
    });
    this.numbers = numbers;
  }

  /** Codes of the attention in one step: row after row, age after age; the weight is (code / 255) squared. */
  async weights(row) {
    if (!this.attention || row >= this.attention.n_steps) return null;
    const size = this.attention.rows.length * this.attention.n_ages;
    const buffer = await this.chunks.get(`attention/${Math.floor(row / this.chunk)}`);
    return new Uint8Array(buffer, (row % this.chunk) * size, size);
  }

  /** Codes -127 to 127 of a heat map, or null where this step has none. */
  async heat(layer, row) {
    const place = this.heats[layer].steps.indexOf(row);
    if (place < 0) return null;
    const [height, width] = this.heats[layer].shape;
    const buffer = await this.chunks.get(`heat.${layer}/${Math.floor(place / this.chunk)}`);
    return new Int8Array(buffer, (place % this.chunk) * height * width, height * width);
  }

  pressed(row) {
    return page.buttons.filter((_, bit) => (this.numbers.executed[row] >>> bit) & 1);
  }
}

/** The weight behind a code, for people. */
function weightWords(code) {
  const weight = (code / 255) ** 2;
  return weight < 0.0005 ? "below 0.001" : weight.toFixed(3);
}

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** A number for people; `plus` is what stands before one above zero. */
function fixed(value, digits, plus = "") {
  if (!Number.isFinite(value)) return "none";
  const text = Math.abs(value).toFixed(digits);
  return (Number(text) === 0 ? "" : value > 0 ? plus : "\u2212") + text;
}

/** A new element: attributes, then children that are elements or text (never markup). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The theme's colours, by the names that the style sheet gives them. */
const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "line", "ink", "grey", "flame", "blue", "violet", "green", "heat-0", "heat-1",
    "heat-2"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Make a canvas as sharp as the screen is: returns the context, measured in CSS pixels. */
function sharpen(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  return [pen, width];
}
