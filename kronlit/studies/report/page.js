"use strict";
// The page is whole without this: it adds a switch between light and dark, and sorts tables by a click on a heading.
(() => {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const toggle = document.createElement("button");
  const label = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
  try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch { /* a page from a file may have none */ }
  toggle.type = "button";
  toggle.onclick = () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch { /* as above */ }
    label();
  };
  label();
  document.querySelector("header").append(toggle);

  // On a phone the scores come first.
  if (matchMedia("(max-width: 40rem)").matches) for (const box of document.querySelectorAll("details.box")) box.open = false;

  const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };
  const value = (cell) => {
    const text = cell.textContent.trim().replace(/^< /, "").replace(/,(?=\d{3})/g, "").replace("−", "-");
    const found = /^([+-]?[\d.]+(?:e[+-]?\d+)?)(?: ([kMG]?B))?/.exec(text);
    return found ? Number(found[1]) * (UNITS[found[2]] || 1) : text;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return typeof a === "number" ? 1 : -1;
  };
  for (const table of document.querySelectorAll("table.sorts")) {
    const body = table.tBodies[0];
    // A paper's row stays below the row that it belongs to.
    const groups = [];
    for (const row of body.rows) row.classList.contains("published") && groups.length ? groups.at(-1).push(row) : groups.push([row]);
    if (!groups.length) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.onclick = () => {
        const key = (group) => column ? value(group[0].cells[column]) : group[0].cells[0].textContent;
        const text = !groups.some((group) => typeof key(group) === "number");
        const up = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : text; // numbers first from the largest
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        groups.sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
        body.append(...groups.flat());
      };
    });
  }

  const open = () => {
    const there = location.hash && document.getElementById(location.hash.slice(1));
    for (let one = there; one; one = one.parentElement.closest("details")) one.open = true;
    if (there) there.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
})();
