// The page of all runs: the accuracy under a chosen attack, and two rows side by side.
const measured = JSON.parse(document.getElementById("measured").textContent);
const entries = [...document.querySelectorAll("#rows tbody tr")];
const figures = (row) => new Map(measured.rows[row.dataset.index].map(([name, ...figure]) => [measured.names[name], figure]));
const percent = (tenths) => (tenths / 10).toFixed(1);
const put = (cell, figure) => {
  cell.replaceChildren(figure ? percent(figure[0]) : "–");
  cell.dataset.value = figure ? figure[0] : "";
  if (figure && figure[1] !== null) {
    const between = document.createElement("small");
    between.textContent = `[${percent(figure[1])}, ${percent(figure[2])}]${figure[3]}`;
    cell.append(between);
  }
};
const attack = form.querySelector("select[data-filter=attack]");
const under = () => {
  for (const element of document.querySelectorAll("[data-chosen]")) element.hidden = attack.value === "";
  for (const row of entries) {
    const figure = attack.value === "" ? null : figures(row).get(attack.value);
    put(row.querySelector("td[data-chosen]"), figure);
    if (attack.value !== "" && !figure) row.hidden = true;
  }
  const shown = entries.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${entries.length} rows`;
};
form.addEventListener("change", under);
form.addEventListener("reset", () => setTimeout(under));
under();
const section = document.getElementById("compare"), sheet = section.querySelector("table");
const cellOf = (kind, text, number) => {
  const cell = document.createElement(kind);
  cell.textContent = text;
  if (number) cell.className = "number";
  return cell;
};
const named = (row) => `${row.dataset.inference} on ${row.dataset.checkpoint}, ${row.dataset.threat}, ${row.dataset.run}`;
const sideBySide = () => {
  const picked = entries.filter((row) => row.querySelector("input").checked);
  for (const row of entries) {
    const box = row.querySelector("input");
    box.disabled = picked.length === 2 && !box.checked;
  }
  section.hidden = picked.length !== 2;
  if (section.hidden) return;
  const [first, second] = picked.map(figures), titles = ["Attack", ...picked.map(named), "Difference"];
  const heads = document.createElement("tr");
  heads.append(...titles.map((title, i) => cellOf("th", title, i > 0)));
  sheet.tHead.replaceChildren(heads);
  sheet.tBodies[0].replaceChildren(...[...new Set([...first.keys(), ...second.keys()])].map((name) => {
    const line = document.createElement("tr"), both = [first.get(name), second.get(name)];
    const cells = [cellOf("td", name), ...both.map(() => cellOf("td", "", true)), cellOf("td", "–", true)];
    both.forEach((figure, i) => put(cells[i + 1], figure));
    if (both[0] && both[1]) {
      const difference = both[1][0] - both[0][0];
      cells[3].textContent = `${difference > 0 ? "+" : ""}${percent(difference)}`;
    }
    cells.forEach((cell, i) => { cell.dataset.head = titles[i]; });
    line.append(...cells);
    return line;
  }));
  const paths = [...new Set(picked.map((row) => row.dataset.path))];
  document.getElementById("command").textContent = `csrobust compare ${paths.join(" ")}`;
};
document.getElementById("rows").addEventListener("change", sideBySide);
