// All steps at a glance: events, interventions, keys, camera, value, log-probability, entropy; one lane each.

const LABELS = 92;
const CAMERA = ["pitch", "yaw"];
const CURVES = [["value", "value"], ["log_prob", "log-prob"], ["entropy", "entropy"]];

class Timeline {
  constructor(canvas, recordings, onSeek, onHover) {
    this.canvas = canvas;
    this.recordings = recordings;
    this.first = Math.min(...recordings.map((r) => r.first));
    this.end = Math.max(...recordings.map((r) => r.end));
    this.from = this.first;
    this.to = this.end;
    this.allKeys = false;
    this.parting = null;
    const seek = (event) => onSeek(this.stepAt(event.offsetX));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      seek(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) seek(event);
      onHover(event.offsetX < LABELS ? null : this.stepAt(event.offsetX));
    });
    canvas.addEventListener("pointerleave", () => onHover(null));
  }

  /** Left edge of a step, in pixels. */
  x(step) {
    return LABELS + ((step - this.from) / (this.to - this.from)) * (this.canvas.clientWidth - LABELS);
  }

  stepAt(x) {
    const part = (x - LABELS) / (this.canvas.clientWidth - LABELS);
    const step = Math.floor(this.from + part * (this.to - this.from));
    return Math.max(this.from, Math.min(this.to - 1, step));
  }

  /** Keep a step in view; true when the view moved. */
  follow(step) {
    if (step >= this.from && step < this.to) return false;
    this.zoom(1, step);
    return true;
  }

  zoom(factor, step) {
    const whole = this.end - this.first;
    const n = Math.max(Math.min(20, whole), Math.min(whole, Math.round((this.to - this.from) * factor)));
    this.from = Math.max(this.first, Math.min(this.end - n, Math.round(step - n / 2)));
    this.to = this.from + n;
  }

  /** Keys with a lane: all, or those that were ever pressed. */
  keys() {
    let used = 0;
    for (const r of this.recordings) {
      for (const bits of r.numbers.executed) used |= bits;
      for (const bits of r.numbers.chosen) used |= bits;
    }
    return page.buttons.map((name, bit) => ({ name, bit })).filter(({ bit }) => this.allKeys || (used >>> bit) & 1);
  }

  lanes() {
    const lanes = this.recordings.map((r) => ({
      label: this.named("events", r), height: 20, gap: 2, draw: (pen, y, h) => this.events(pen, r, y, h),
    }));
    if (!this.recordings.every((r) => r.numbers)) return lanes;
    const both = this.recordings.length > 1;
    for (const key of this.keys()) {
      lanes.push({ label: key.name, height: both ? 14 : 11, gap: 2, draw: (pen, y, h) => this.key(pen, key.bit, y, h) });
    }
    for (const name of CAMERA) {
      lanes.push({ label: `camera ${name}`, height: 22, gap: 3, turn: true,
        draw: (pen, y, h, lane) => this.curve(pen, name, y, h, lane) });
    }
    for (const [name, label] of CURVES) {
      if (this.recordings.some((r) => r.numbers[name].some(Number.isFinite))) {
        lanes.push({ label, height: 44, gap: 6, draw: (pen, y, h, lane) => this.curve(pen, name, y, h, lane) });
      }
    }
    return lanes;
  }

  named(words, recording) {
    return this.recordings.length > 1 ? `${words} ${recording.letter}` : words;
  }

  colour(recording) {
    return recording.index ? colours.blue : colours.flame;
  }

  draw() {
    const lanes = this.lanes();
    const height = lanes.reduce((sum, lane) => sum + lane.height + lane.gap, 0) + 20;
    const [pen, width] = sharpen(this.canvas, height);
    let y = 0;
    for (const lane of lanes) {
      pen.fillStyle = colours.panel;
      pen.fillRect(LABELS, y, width - LABELS, lane.height);
      pen.fillStyle = colours.grey;
      pen.textAlign = "right";
      pen.fillText(lane.label, LABELS - 8, y + lane.height / 2 + 0.5);
      pen.save();
      pen.beginPath();
      pen.rect(LABELS, y, width - LABELS, lane.height);
      pen.clip();
      lane.draw(pen, y, lane.height, lane);
      pen.restore();
      y += lane.height + lane.gap;
    }
    this.ticks(pen, y);
    this.part(pen, y);
  }

  ticks(pen, y) {
    const n = this.to - this.from;
    const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((s) => n / s <= 12) || 50000;
    pen.fillStyle = colours.grey;
    pen.textAlign = "center";
    for (let step = Math.ceil(this.from / stride) * stride; step < this.to; step += stride) {
      const x = (this.x(step) + this.x(step + 1)) / 2;
      pen.fillRect(x, y - 2, 1, 5);
      pen.fillText(String(step), Math.max(LABELS + 4, x), y + 11);
    }
  }

  /** Where two recordings part. */
  part(pen, bottom) {
    if (this.parting === null || this.parting < this.from || this.parting >= this.to) return;
    pen.strokeStyle = colours.violet;
    pen.lineWidth = 1.5;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(this.x(this.parting), 0);
    pen.lineTo(this.x(this.parting), bottom);
    pen.stroke();
    pen.setLineDash([]);
  }

  events(pen, recording, y, h) {
    for (const event of recording.events) {
      const x = this.x(event.first), wide = Math.max(3, this.x(event.last + 1) - x);
      pen.fillStyle = event.intervention ? colours.violet : this.colour(recording);
      if (event.intervention) pen.fillRect(x, y + h - 6, wide, 4);
      else pen.fillRect(x, y + 2, wide, h - 9);
    }
    pen.fillStyle = colours.green;
    for (const outcome of recording.outcomes) {
      if (outcome.first_step === null) continue;
      const x = (this.x(outcome.first_step) + this.x(outcome.first_step + 1)) / 2;
      pen.beginPath();
      pen.moveTo(x - 4, y);
      pen.lineTo(x + 4, y);
      pen.lineTo(x, y + 7);
      pen.fill();
    }
  }

  key(pen, bit, y, h) {
    const each = h / this.recordings.length;
    for (const r of this.recordings) {
      const { executed, chosen } = r.numbers;
      const top = y + r.index * each;
      this.runs(r, (row) => (executed[row] >>> bit) & 1, (x, wide) => {
        pen.fillStyle = this.colour(r);
        pen.fillRect(x, top, wide, each);
      });
      // An intervention stood between: chosen and not executed, or executed and not chosen.
      this.runs(r, (row) => ((executed[row] ^ chosen[row]) >>> bit) & 1, (x, wide) => {
        pen.fillStyle = colours.violet;
        pen.fillRect(x, top + each / 3, wide, each / 3);
      });
    }
  }

  /** Call `mark(x, width)` for every stretch of rows in view for which `holds(row)`. */
  runs(recording, holds, mark) {
    const last = Math.min(recording.end, this.to);
    let start = null;
    for (let step = Math.max(recording.first, this.from); step <= last; step++) {
      const now = step < last && holds(step - recording.first);
      if (now && start === null) start = step;
      if (!now && start !== null) {
        mark(this.x(start), Math.max(1, this.x(step) - this.x(start) - (this.x(step) - this.x(start) > 6 ? 1 : 0)));
        start = null;
      }
    }
  }

  curve(pen, name, y, h, lane) {
    let low = Infinity, high = -Infinity;
    for (const r of this.recordings) {
      for (const value of r.numbers[name]) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (lane.turn) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
    const flat = !(high > low);
    if (flat) [low, high] = [low - 0.5, low + 0.5];
    const at = (value) => y + 2 + (1 - (value - low) / (high - low)) * (h - 4);
    if (lane.turn) {
      pen.fillStyle = colours.line;
      pen.fillRect(LABELS, Math.round(at(0)), this.canvas.clientWidth, 1);
    }
    for (const r of this.recordings) this.line(pen, r, r.numbers[name], at);
    const digits = Math.max(0, Math.min(5, 2 - Math.floor(Math.log10(high - low))));
    if (flat) this.note(pen, fixed((low + high) / 2, 2), y + 7);
    else if (lane.turn) this.note(pen, `\u00b1${fixed(high, 1)}\u00b0`, y + 7);
    else {
      this.note(pen, fixed(high, digits), y + 7);
      this.note(pen, fixed(low, digits), y + h - 6);
    }
  }

  /** A number at the right end of a lane, readable over its line. */
  note(pen, words, y) {
    pen.textAlign = "right";
    pen.strokeStyle = colours.panel;
    pen.lineWidth = 4;
    pen.strokeText(words, this.canvas.clientWidth - 4, y);
    pen.fillStyle = colours.grey;
    pen.fillText(words, this.canvas.clientWidth - 4, y);
  }

  /** Every value is in the line: where several steps share a pixel, from the lowest to the highest. */
  line(pen, recording, values, at) {
    pen.strokeStyle = this.colour(recording);
    pen.lineWidth = 1;
    pen.lineJoin = "round";
    pen.beginPath();
    let open = false;
    const last = Math.min(recording.end, this.to);
    for (let step = Math.max(recording.first, this.from); step < last; step++) {
      const value = values[step - recording.first];
      const x = (this.x(step) + this.x(step + 1)) / 2;
      if (!Number.isFinite(value)) open = false;
      else if (open) pen.lineTo(x, at(value));
      else {
        pen.moveTo(x, at(value));
        open = true;
      }
    }
    pen.stroke();
  }
}
