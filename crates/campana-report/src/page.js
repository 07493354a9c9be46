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
