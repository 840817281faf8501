// What came of it, what happened, and where it comes from.

const SHOWN = 300;

function card(title, ...children) {
  return make("article", { class: "card" }, make("h2", {}, title), ...children);
}

function wide(made) {
  made.classList.add("wide");
  return made;
}

function stepButton(step, onSeek) {
  return make("button", { type: "button", class: "step", onclick: () => onSeek(step) }, `step ${step}`);
}

function table(columns, rows) {
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
  return make("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": columns.join(", ") },
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

function outcomeCard(recording, title, onSeek) {
  if (!recording.outcomes.length) return card(title, make("p", { class: "quiet" }, "The scenario names no outcomes."));
  return card(title, table(["outcome", "came true", "first in", "count"], recording.outcomes.map((each) => [
    each.name, make("span", { class: each.value ? "yes" : "no" }, each.value ? "yes" : "no"),
    each.first_step === null ? "" : stepButton(each.first_step, onSeek), each.count === null ? "" : String(each.count)])));
}

function eventCard(recording, title, onSeek) {
  const { events } = recording;
  if (!events.length) return card(title, make("p", { class: "quiet" }, "Nothing was noted."));
  const rows = events.slice(0, SHOWN).map((each) => [stepButton(each.first, onSeek),
    make("span", { class: each.intervention ? "intervention" : "" }, each.words + (each.last > each.first
      ? `, ${each.count} times to step ${each.last}` : ""))]);
  const more = events.length > SHOWN ? [make("p", { class: "quiet" }, `and ${events.length - SHOWN} more on the timeline`)] : [];
  return card(title, table(["first in", "what"], rows), ...more);
}

function provenanceCard(recording, title) {
  const list = make("dl", {});
  for (const [label, words] of recording.provenance) {
    const warn = label === "agent" && recording.random;
    list.append(make("dt", {}, label), make("dd", warn ? { class: "warning" } : {}, words));
  }
  return card(title, list);
}

function cellWords(cell) {
  if (cell === null) return "";
  if (Array.isArray(cell)) return `[${cell.map((each) => Number(each).toPrecision(3)).join(", ")}]`;
  return typeof cell === "number" && !Number.isInteger(cell) ? cell.toPrecision(3) : String(cell);
}

function resultCards(result) {
  return result.tables.map((each) => card(`${result.title}: ${each.title || ""}`,
    table(each.columns.map(String), each.rows.map((row) => row.map(cellWords))),
    ...(each.note ? [make("p", { class: "quiet" }, each.note)] : [])));
}

function differenceCard(found, onSeek) {
  return wide(card("Where the two part", table(["first in", "what", "A", "B"], found.columns.map((each) => [
    stepButton(each.step, onSeek), each.column, each.a, each.b]))));
}

function allCards(recordings, onSeek) {
  const titled = (words, r) => (recordings.length > 1 ? `${words}, ${r.letter}` : words);
  return [...page.results.flatMap(resultCards).map(wide),
    ...recordings.map((r) => outcomeCard(r, titled("Outcomes", r), onSeek)),
    ...recordings.map((r) => eventCard(r, titled("Events", r), onSeek)),
    ...recordings.map((r) => provenanceCard(r, titled("Provenance", r)))];
}
