// Sorts a table by the column whose heading was clicked, again to turn it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column], value = cell.dataset.v;
      return value === undefined ? cell.textContent : value === "" ? null : parseFloat(value);
    };
    const order = (a, b) => {
      const x = key(a), y = key(b);
      // What has no value comes last either way.
      if (x === null || y === null) return (x === null) - (y === null);
      const sign = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return up ? sign : -sign;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }));
}
// Shows the lines of the methods that are ticked, and of the one that is pointed at.
for (const box of document.querySelectorAll("input[data-series]")) {
  const parts = document.querySelectorAll("." + box.dataset.series);
  const show = (on) => parts.forEach((part) => part.classList.toggle("off", !on));
  show(box.checked);
  box.addEventListener("change", () => show(box.checked));
  box.parentElement.addEventListener("pointerenter", () => show(true));
  box.parentElement.addEventListener("pointerleave", () => show(box.checked));
}
// Says under a plot what was pointed at: a touch shows no titles.
for (const said of document.querySelectorAll(".plot output")) {
  const tell = (event) => {
    const title = event.target.closest(".hit")?.querySelector("title");
    if (title) said.textContent = title.textContent;
  };
  said.closest(".plot").addEventListener("pointerover", tell);
  said.closest(".plot").addEventListener("click", tell);
}
