// A recording's picture, what was pressed, and what the agent looked back at.

/** A canvas that shows the picture asked for last; those asked for while another is on its way are skipped. */
class Screen {
  constructor(box, recording, words) {
    this.canvas = box.querySelector("canvas");
    this.absent = box.querySelector(".absent");
    this.recording = recording;
    this.words = words;
    [this.canvas.height, this.canvas.width] = recording.size;
    this.pen = this.canvas.getContext("2d");
    this.wanted = null;
    this.busy = false;
  }

  async show(stream, row) {
    this.wanted = { stream, row };
    if (this.busy) return;
    this.busy = true;
    for (let now = null; now !== this.wanted;) {
      now = this.wanted;
      await this.draw(now);
    }
    this.busy = false;
  }

  async draw({ stream, row }) {
    let trouble = null;
    if (!this.recording.has(row)) trouble = row < 0 ? "before the recording begins" : "the recording has ended";
    else {
      try {
        this.pen.drawImage(await this.recording.picture(stream, row), 0, 0);
      } catch (problem) {
        trouble = problem.message;
      }
    }
    if (trouble !== null) this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.absent.hidden = trouble === null;
    this.absent.textContent = trouble || "";
    const step = row + this.recording.first;
    this.canvas.setAttribute("aria-label", `${this.words} of step ${step}${trouble ? `: ${trouble}` : ""}`);
    this.canvas.dataset.step = trouble === null ? step : "";
    if (trouble === null && !performance.getEntriesByName("first-picture").length) performance.mark("first-picture");
  }
}

const CAPS = [["forward", "W"], ["left", "A"], ["back", "S"], ["right", "D"], ["jump", "jump"], ["sneak", "sneak"],
  ["sprint", "sprint"], ["attack", "attack"], ["use", "use"], ["drop", "drop"], ["inventory", "inv"],
  ["pickItem", "pick"], ["swapHands", "swap"], ["ESC", "esc"]];

class Panel {
  constructor(recording, both, onSeek, onPast) {
    this.recording = recording;
    this.onSeek = onSeek;
    this.onPast = onPast;
    this.row = 0;
    this.element = document.getElementById("panel").content.cloneNode(true).querySelector("article");
    this.name(both);
    this.screen = new Screen(this.find(".scene .picture"), recording, "picture");
    this.past = new Screen(this.find(".back .picture"), recording, "past picture");
    this.stream = recording.streams.agent ? "agent" : "world";
    this.head = 0;
    this.hovered = this.pinned = null;
    this.caps();
    this.choices();
    if (recording.attention) this.looking();
    else {
      this.find(".attention").hidden = true;
      this.find(".nothing").hidden = false;
      this.find(".nothing").textContent = recording.attention_note;
    }
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  name(both) {
    const r = this.recording;
    this.element.classList.toggle("b", r.index === 1);
    this.find(".name").textContent = both ? `${r.letter}: ${r.name}` : r.name;
    this.find(".agent").textContent = r.agent;
    this.find(".agent").classList.toggle("warning", r.random);
    this.find(".note").hidden = r.unfinished === null;
    this.find(".note").textContent = r.unfinished || "";
  }

  caps() {
    this.lit = new Map();
    const keys = this.find(".keys");
    for (const [key, label] of CAPS) {
      this.lit.set(key, make("span", { class: "cap" }, label));
      keys.append(this.lit.get(key));
    }
    this.slot = make("span", { class: "cap" }, "slot \u2013");
    keys.append(this.slot);
  }

  choices() {
    const r = this.recording;
    if (r.streams.agent) {
      this.find(".stream-choice").hidden = false;
      const select = this.find(".stream");
      select.append(make("option", { value: "agent" }, "what the agent saw"),
        make("option", { value: "world" }, "what the world showed"));
      select.addEventListener("change", () => {
        this.stream = select.value;
        this.show(this.row);
      });
    }
    this.layer = r.heats.length ? 0 : null;
    this.heat = this.find(".heat");
    if (!r.heats.length) return;
    for (const choice of this.element.querySelectorAll(".heat-choice")) choice.hidden = false;
    const select = this.find(".layer"), opacity = this.find(".opacity");
    r.heats.forEach((heat, i) => select.append(make("option", { value: i }, heat.title)));
    select.append(make("option", { value: "" }, "none"));
    select.addEventListener("change", () => {
      this.layer = select.value === "" ? null : Number(select.value);
      this.warm();
    });
    const fade = () => { this.heat.style.opacity = opacity.value / 100; };
    opacity.addEventListener("input", fade);
    fade();
  }

  looking() {
    const { rows, n_ages } = this.recording.attention;
    const select = this.find(".head"), age = this.find(".age"), follow = this.find(".follow");
    rows.forEach((name, i) => select.append(make("option", { value: i }, name)));
    select.addEventListener("change", () => this.choose(Number(select.value)));
    age.max = n_ages - 1;
    age.addEventListener("input", () => this.pin(Number(age.value)));
    follow.addEventListener("click", () => this.pin(null));
    this.find(".go").addEventListener("click", () => this.onSeek(this.recording.first + this.row - this.age));
    this.strip = new AttentionStrip(this.find(".strip"), this.recording, (a, pinned) => {
      if (pinned && a !== null) this.pin(a);
      else if (!pinned && a !== this.hovered) {
        this.hovered = a;
        this.look();
      }
    }, (row) => this.choose(row));
  }

  choose(row) {
    this.head = row;
    this.find(".head").value = row;
    this.look();
  }

  pin(age) {
    this.pinned = age;
    this.look();
  }

  /** Show a row of the recording; one outside of it says so. */
  show(row) {
    this.row = row;
    this.press();
    // The picture first: the past one waits for the same decoder.
    return this.screen.show(this.stream, row).then(() => Promise.all([this.warm(), this.look()]));
  }

  /** Keys, camera and numbers of this step. */
  press() {
    const { numbers } = this.recording;
    if (!numbers) return;
    const here = this.recording.has(this.row), row = this.row;
    const down = here ? this.recording.pressed(row) : [];
    const apart = here ? numbers.executed[row] ^ numbers.chosen[row] : 0;
    for (const [key, cap] of this.lit) {
      cap.classList.toggle("down", down.includes(key));
      cap.classList.toggle("apart", Boolean((apart >>> page.buttons.indexOf(key)) & 1));
    }
    const slot = down.find((key) => key.startsWith("hotbar."));
    this.slot.textContent = `slot ${slot ? slot.slice(7) : "\u2013"}`;
    this.slot.classList.toggle("down", Boolean(slot));
    this.find(".keys").setAttribute("aria-label",
      `${this.recording.played ? "keys played" : "keys chosen, not played"}: ${down.join(", ") || "none"}`);
    this.find(".numbers").textContent = here ? [
      `yaw ${fixed(numbers.yaw[row], 1, "+")}\u00b0`, `pitch ${fixed(numbers.pitch[row], 1, "+")}\u00b0`,
      `value ${fixed(numbers.value[row], 3)}`, `log-prob ${fixed(numbers.log_prob[row], 2)}`,
      `entropy ${fixed(numbers.entropy[row], 2)}`, ...(apart ? ["keys changed"] : []),
      ...(this.recording.played ? [] : ["not played"])].join("   ") : "";
  }

  /** Lay the heat map of this step over the picture. */
  async warm() {
    const row = this.row, layer = this.layer;
    const codes = layer === null ? null : await this.recording.heat(layer, row);
    if (row !== this.row || layer !== this.layer) return;
    this.heat.hidden = codes === null;
    if (codes === null) return;
    const [height, width] = this.recording.heats[layer].shape;
    const image = new ImageData(width, height);
    codes.forEach((code, i) => {
      // For it: yellow; against it: blue; nothing is clear.
      image.data.set(code >= 0 ? [255, 214, 64, code * 2] : [64, 140, 255, -code * 2], 4 * i);
    });
    [this.heat.width, this.heat.height] = [width, height];
    this.heat.getContext("2d").putImageData(image, 0, 0);
  }

  /** The attention of this step, and the past picture that is hovered, pinned, or looked at most. */
  async look() {
    if (!this.strip) return;
    const row = this.row, r = this.recording;
    let codes = null, trouble = "";
    try {
      codes = r.has(row) ? await r.weights(row) : null;
    } catch (problem) {
      trouble = problem.message;
    }
    if (row !== this.row) return;
    const start = this.head * r.attention.n_ages;
    const reach = Math.max(0, Math.min(r.attention.n_ages, row + 1));
    this.age = this.hovered ?? this.pinned ?? this.strongest(codes, start, reach);
    this.strip.draw(codes, this.head, this.age, reach);
    this.find(".age").value = this.age;
    const step = r.first + row - this.age;
    const ago = this.age === 0 ? "the current frame" : `${plural(this.age, "frame")} ago`;
    const weight = codes ? `weight ${weightWords(codes[start + this.age])}` : trouble || "no attention was recorded here";
    this.find(".age").setAttribute("aria-valuetext", `${ago}, ${weight}`);
    this.find(".age-words").textContent = ago;
    this.find(".age-how").textContent = `${step >= r.first ? `step ${step}` : "before the recording"}, ${weight}`;
    this.find(".reading").textContent = `${r.attention.rows[this.head]}: ${ago}, ${weight}`;
    this.find(".strip").setAttribute("aria-label",
      `attention of ${r.attention.rows[this.head]} by age, in step ${r.first + row}; marked: ${ago}, ${weight}`);
    this.find(".go").disabled = this.age === 0 || step < r.first;
    this.find(".follow").setAttribute("aria-pressed", String(this.pinned === null));
    this.onPast(step >= r.first && this.age > 0 ? step : null);
    await this.past.show(this.stream, row - this.age);
  }

  strongest(codes, start, reach) {
    let best = reach > 1 ? 1 : 0;
    for (let age = 2; codes && age < reach; age++) {
      if (codes[start + age] > codes[start + best]) best = age;
    }
    return best;
  }

  /** Fetch the pictures that come next, one after the other so that the decoder reads forwards. */
  async prefetch(n, direction) {
    if (this.fetching) return;
    this.fetching = true;
    for (let i = 1; i <= n; i++) {
      const row = this.row + i * direction;
      if (this.recording.has(row)) await this.recording.picture(this.stream, row).catch(() => null);
    }
    this.fetching = false;
  }
}
