// The page as a whole: one step for all recordings, the keyboard, and the clock.

const at = (id) => document.getElementById(id);
const recordings = page.recordings.map((facts, i) => new Recording(facts, i));
const both = recordings.length > 1;
const fps = recordings[0].fps;
let step = 0, playing = null;
let parting = null;

readColours();
at("title").textContent = both ? `${recordings[0].scenario}: A and B` : recordings[0].scenario;
for (const id of ["panels", "cards"]) at(id).classList.toggle("both", both);

const timeline = new Timeline(at("lanes"), recordings, (to) => seek(to), (over) => {
  at("hover").textContent = over === null ? "" : describe(over);
});
const panels = recordings.map((r) => new Panel(r, both, (to) => seek(to), (past) => {
  if (r.index === 0) place(at("pasthead"), past);
}));
at("panels").append(...panels.map((panel) => panel.element));

function describe(over) {
  const words = recordings.flatMap((r) => r.events.filter((e) => e.first <= over && over <= e.last)
    .map((e) => (both ? `${r.letter}: ${e.words}` : e.words)));
  const time = `step ${over}, ${(over / fps).toFixed(2)} s`;
  return words.length ? `${time}: ${words.slice(0, 3).join("; ")}${words.length > 3 ? "; ..." : ""}` : time;
}

function place(head, where) {
  head.hidden = where === null || where < timeline.from || where >= timeline.to;
  if (head.hidden) return;
  head.style.left = `${timeline.x(where)}px`;
  head.style.width = `${Math.max(2, timeline.x(where + 1) - timeline.x(where))}px`;
}

/** Go to a step, in all recordings. */
function seek(to) {
  const before = step;
  step = Math.max(timeline.first, Math.min(timeline.end - 1, Math.round(to)));
  if (timeline.follow(step)) timeline.draw();
  const shown = Promise.all(panels.map((panel) => panel.show(step - panel.recording.first)));
  place(at("playhead"), step);
  at("scrubber").value = step;
  at("scrubber").setAttribute("aria-valuetext", describe(step));
  at("where").textContent = `step ${step} / ${timeline.end - 1}   ${(step / fps).toFixed(2)} s`;
  if (Math.abs(step - before) <= 1 || playing) {
    shown.then(() => panels.forEach((panel) => panel.prefetch(playing ? 8 : 3, step < before ? -1 : 1)));
  }
  remember();
  return shown;
}

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", `#step=${step}`), 400);
}

/** First steps of events, interventions, outcomes, and where the two part. */
function landmarks() {
  const found = recordings.flatMap((r) => [...r.events.map((e) => e.first), ...r.outcomes.map((o) => o.first_step)]);
  found.push(parting);
  return [...new Set(found.filter((each) => each !== null))].sort((a, b) => a - b);
}

function jump(direction) {
  const others = landmarks().filter((each) => (each - step) * direction > 0);
  if (others.length) seek(direction > 0 ? others[0] : others[others.length - 1]);
}

function play(on) {
  if (on === (playing !== null)) return;
  playing = null;
  at("play").textContent = on ? "Pause" : "Play";
  if (!on) return;
  if (step === timeline.end - 1) seek(timeline.first);
  const clock = playing = { start: performance.now(), from: step, speed: Number(at("speed").value) };
  const tick = (now) => {
    if (playing !== clock) return;
    const to = clock.from + Math.floor(((now - clock.start) / 1000) * fps * clock.speed);
    if (to >= timeline.end - 1) {
      seek(timeline.end - 1);
      play(false);
      return;
    }
    if (to !== step) seek(to);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function move(to) {
  play(false);
  seek(to);
}

function zoom(factor) {
  timeline.zoom(factor, step);
  redraw();
}

function redraw() {
  timeline.draw();
  place(at("playhead"), step);
  at("zoom-out").disabled = timeline.to - timeline.from >= timeline.end - timeline.first;
  panels.forEach((panel) => panel.look());
}

const keys = {
  " ": () => play(playing === null),
  ArrowLeft: (event) => move(step - (event.shiftKey ? 10 : 1)),
  ArrowRight: (event) => move(step + (event.shiftKey ? 10 : 1)),
  Home: () => move(timeline.first),
  End: () => move(timeline.end - 1),
  "[": () => { play(false); jump(-1); },
  "]": () => { play(false); jump(1); },
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
};

window.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
  // A select, and the sliders for age and opacity, have arrows of their own; a button has the space bar.
  if (target.tagName === "SELECT" || (target.type === "range" && target.id !== "scrubber")) return;
  if (event.key === " " && target.tagName === "BUTTON" && target.id !== "play") return;
  event.preventDefault();
  keys[event.key](event);
});

at("play").addEventListener("click", () => play(playing === null));
at("play").addEventListener("keyup", (event) => { if (event.key === " ") event.preventDefault(); });
at("back").addEventListener("click", () => move(step - 1));
at("forward").addEventListener("click", () => move(step + 1));
at("previous").addEventListener("click", () => { play(false); jump(-1); });
at("next").addEventListener("click", () => { play(false); jump(1); });
at("zoom-in").addEventListener("click", () => zoom(0.5));
at("zoom-out").addEventListener("click", () => zoom(2));
at("scrubber").addEventListener("input", () => move(Number(at("scrubber").value)));
at("speed").addEventListener("change", () => { if (playing) { play(false); play(true); } });
at("all-keys").addEventListener("click", () => {
  timeline.allKeys = !timeline.allKeys;
  at("all-keys").setAttribute("aria-pressed", String(timeline.allKeys));
  redraw();
});

function part(found) {
  const line = at("parting");
  line.hidden = false;
  if (found.error) line.textContent = `The two cannot be compared: ${found.error}`;
  else if (!found.n_compared) line.textContent = "The two have no step in common.";
  else if (!found.columns.length) line.textContent = `The two are equal in all ${plural(found.n_compared, "step")} that both have.`;
  else {
    const first = found.columns[0];
    parting = timeline.parting = first.step;
    line.replaceChildren("The two part at ", make("button", { type: "button", class: "step",
      onclick: () => move(first.step) }, `step ${first.step}`), ` in ${first.column}: A ${first.a}, B ${first.b}`);
    at("cards").prepend(differenceCard(found, move));
    redraw();
  }
}

async function begin() {
  const scrubber = at("scrubber");
  [scrubber.min, scrubber.max] = [timeline.first, timeline.end - 1];
  const asked = Number((location.hash.match(/^#step=(\d+)$/) || [])[1] || timeline.first);
  timeline.draw();
  const shown = seek(asked);
  at("cards").append(...allCards(recordings, move));
  at("subtitle").textContent = recordings[0].description;
  at("legend").replaceChildren(...legend());
  at("made").textContent = page.served ? "" : `Pictures in this file are WebP of quality ${page.quality}; those of the recording are lossless.`;
  await shown;
  await Promise.all(recordings.map((r) => r.load()));
  panels.forEach((panel) => panel.press());
  redraw();
  document.body.dataset.ready = "yes";
  if (!both) return;
  if (page.difference) part(page.difference);
  else {
    at("parting").hidden = false;
    at("parting").textContent = "Looking for the first difference ...";
    part(await (await fetch("/difference")).json());
  }
}

function legend() {
  const of = (mark, words) => make("span", {}, make("i", { class: `mark ${mark}` }), words);
  const marks = both ? [of("flame", "A"), of("blue", "B")] : [of("flame", "event, key")];
  marks.push(of("violet", "intervention, or a key it changed"), of("green", "an outcome first came true"),
    of("past", "the past picture shown"));
  if (both) marks.push(of("dashed", "the two part"));
  return marks;
}

new ResizeObserver(redrawSoon).observe(at("panels"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawSoon);
let soon = 0;
function redrawSoon() {
  cancelAnimationFrame(soon);
  soon = requestAnimationFrame(() => {
    readColours();
    shades = null;
    redraw();
  });
}

begin().catch((problem) => {
  at("parting").hidden = false;
  at("parting").textContent = `This page cannot be shown: ${problem.message}`;
  throw problem;
});
