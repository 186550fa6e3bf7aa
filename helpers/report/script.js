"use strict";
const button = document.getElementById("show-code");
const folds = document.querySelectorAll("details.code, details.cells");
if (button && folds.length) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.textContent === "Show all code";
    folds.forEach((fold) => { fold.open = open; });
    button.textContent = open ? "Hide all code" : "Show all code";
  });
}

const links = new Map();
document.querySelectorAll("nav.sidebar a").forEach((link) => {
  const heading = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (heading) links.set(heading, link);
});
const mark = () => {
  let current = null;
  for (const [heading, link] of links) {
    link.removeAttribute("aria-current");
    if (heading.getBoundingClientRect().top < 120) current = link;
  }
  if (current) current.setAttribute("aria-current", "true");
};
if (links.size) addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });

document.querySelectorAll(".sorts").forEach((told) => { told.hidden = false; });

document.querySelectorAll("table.runs th button").forEach((head) => {
  head.addEventListener("click", () => {
    const cell = head.parentElement;
    const column = cell.cellIndex;
    const down = cell.getAttribute("aria-sort") === "ascending";
    const body = cell.closest("table").tBodies[0];
    const numbers = cell.classList.contains("num");
    const value = (row) => {
      const told = row.cells[column].dataset.value;
      return numbers && !Number.isFinite(parseFloat(told)) ? "" : told;
    };
    const compare = (a, b) => (a === "") - (b === "") || (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
    const by = (a, b) => numbers && a !== "" && b !== "" ? (down ? b - a : a - b) : compare(a, b);
    body.append(...[...body.rows].sort((a, b) => by(value(a), value(b))));
    cell.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
});
