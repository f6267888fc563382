"use strict";
// Sorting: a click on a column's title, again for the other direction. Empty cells always come last.
const value = (cell) => {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(text);
  return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
};
const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
    rows.sort(([a], [b]) => a === null ? (b === null ? 0 : 1) : b === null ? -1 : (down ? -1 : 1) * compare(a, b));
    body.append(...rows.map(([, row]) => row));
  });
}
// Filtering: what has one of the chosen properties with another value is hidden.
const form = document.querySelector(".filters");
if (form) {
  const selects = [...form.querySelectorAll("select")];
  const marked = [...document.querySelectorAll(selects.map((s) => `[data-${s.dataset.filter}]`).join(","))];
  const apply = () => {
    for (const element of marked) {
      element.hidden = selects.some((select) => {
        const own = element.dataset[select.dataset.filter];
        return select.value !== "" && own !== undefined && own !== select.value;
      });
    }
    const rows = [...document.querySelectorAll("#rows tbody tr")];
    const shown = rows.filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = rows.length ? `${shown} of ${rows.length} rows` : "";
  };
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
// A link to a section that is folded opens it.
const reveal = () => {
  const folded = location.hash && document.getElementById(location.hash.slice(1))?.closest("details");
  if (folded) { folded.open = true; folded.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
