// Attention over age: the chosen head as bars, all heads below it as a map. The current frame is at the right.

const GUTTER = 44;
const BARS = 84;

class AttentionStrip {
  /** `onAge(age, pinned)` is told which past frame is wanted; null when the pointer leaves. */
  constructor(canvas, recording, onAge, onHead) {
    this.canvas = canvas;
    this.recording = recording;
    this.rows = recording.attention.rows.length;
    this.ages = recording.attention.n_ages;
    this.rowHeight = Math.max(2, Math.min(9, Math.floor(150 / this.rows)));
    this.mapTop = BARS + 22;
    this.height = this.mapTop + this.rows * this.rowHeight + 2;
    canvas.addEventListener("pointermove", (event) => onAge(this.ageAt(event), false));
    canvas.addEventListener("pointerleave", () => onAge(null, false));
    canvas.addEventListener("click", (event) => {
      const row = Math.floor((event.offsetY - this.mapTop) / this.rowHeight);
      if (row >= 0 && row < this.rows) onHead(row);
      onAge(this.ageAt(event), true);
    });
  }

  cell(width) {
    return (width - GUTTER) / this.ages;
  }

  ageAt(event) {
    const width = this.canvas.clientWidth;
    if (event.offsetX < GUTTER) return null;
    return Math.max(0, Math.min(this.ages - 1, Math.floor((width - event.offsetX) / this.cell(width))));
  }

  /** Draw the codes of a step: `head` the chosen row, `age` the marked one, `reach` how many ages have a picture. */
  draw(codes, head, age, reach) {
    const [pen, width] = sharpen(this.canvas, this.height);
    const cell = this.cell(width);
    const x = (a) => width - (a + 1) * cell;
    pen.fillStyle = colours.panel;
    pen.fillRect(GUTTER, 0, width - GUTTER, BARS);
    pen.fillRect(GUTTER, this.mapTop, width - GUTTER, this.rows * this.rowHeight);
    this.scale(pen, width);
    if (age !== null) {
      pen.fillStyle = colours.line;
      pen.fillRect(x(age), 0, Math.max(1, cell), this.height);
    }
    if (codes) {
      const start = head * this.ages;
      pen.fillStyle = colours.flame;
      for (let a = 0; a < this.ages; a++) {
        const tall = (codes[start + a] / 255) * (BARS - 6);
        pen.fillRect(x(a) + (cell > 4 ? 0.5 : 0), BARS - tall, cell > 4 ? cell - 1 : cell, tall);
      }
      this.map(pen, codes, width);
    }
    this.before(pen, x(reach - 1), reach);
    this.ages_(pen, x, cell, width);
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 1;
    pen.strokeRect(GUTTER - 0.5, this.mapTop + head * this.rowHeight - 0.5, width - GUTTER, this.rowHeight + 1);
    if (age !== null) pen.strokeRect(x(age) - 0.5, 0.5, cell + 1, BARS - 1);
  }

  scale(pen, width) {
    pen.textAlign = "right";
    for (const weight of [0.01, 0.1, 0.5, 1]) {
      const y = BARS - Math.sqrt(weight) * (BARS - 6);
      pen.fillStyle = colours.line;
      pen.fillRect(GUTTER, Math.round(y), width - GUTTER, 1);
      pen.fillStyle = colours.grey;
      pen.fillText(String(weight), GUTTER - 6, Math.max(6, y));
    }
  }

  map(pen, codes, width) {
    const image = new ImageData(this.ages, this.rows);
    for (let row = 0; row < this.rows; row++) {
      for (let a = 0; a < this.ages; a++) {
        image.data.set(shade(codes[row * this.ages + a]), 4 * (row * this.ages + this.ages - 1 - a));
      }
    }
    const small = new OffscreenCanvas(this.ages, this.rows);
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, GUTTER, this.mapTop, width - GUTTER, this.rows * this.rowHeight);
    pen.fillStyle = colours.grey;
    pen.textAlign = "right";
    const layers = this.recording.attention.rows.map((name) => name.split(".")[0]);
    for (let row = 0, next = 0; row < layers.length; row = next) {
      while (next < layers.length && layers[next] === layers[row]) next++;
      const words = layers[row].endsWith("mean") ? "mean" : `${layers[row].split(" ").pop()}.*`;
      pen.fillText(words, GUTTER - 6, this.mapTop + ((row + next) / 2) * this.rowHeight);
    }
  }

  /** Ages from before the recording have no picture: hatched. */
  before(pen, edge, reach) {
    if (reach >= this.ages) return;
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, 0, edge - GUTTER, BARS);
    pen.clip();
    pen.strokeStyle = colours.line;
    for (let x = GUTTER - BARS; x < edge; x += 7) {
      pen.beginPath();
      pen.moveTo(x, BARS);
      pen.lineTo(x + BARS, 0);
      pen.stroke();
    }
    pen.restore();
  }

  ages_(pen, x, cell, width) {
    const stride = this.ages > 64 ? 32 : this.ages > 16 ? 8 : 2;
    pen.fillStyle = colours.grey;
    for (let a = 0; a < this.ages; a += stride) {
      pen.textAlign = a ? "center" : "right";
      pen.fillText(a ? String(a) : "now", a ? x(a) + cell / 2 : width, BARS + 11);
    }
    pen.textAlign = "left";
    pen.fillText("frames ago", GUTTER, BARS + 11);
  }
}

let shades = null;

/** Colour of a code 0 to 255, as RGBA: from the panel's colour over two more of the theme's. */
function shade(code) {
  if (!shades) {
    const stops = ["heat-0", "heat-1", "heat-2"].map((name) => colours[name].match(/\w\w/g).map((h) => parseInt(h, 16)));
    shades = Array.from({ length: 256 }, (_, i) => {
      const at = (i / 255) * 2;
      const from = stops[Math.min(1, Math.floor(at))], to = stops[Math.min(1, Math.floor(at)) + 1];
      const part = at - Math.min(1, Math.floor(at));
      return [...from.map((c, k) => Math.round(c + (to[k] - c) * part)), 255];
    });
  }
  return shades[code];
}
