for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const head of table.querySelectorAll("th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // Best first, which for most columns is the smallest; the next click turns it round.
      const first = head.dataset.first ?? "ascending";
      const turned = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? turned : first;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const value = (row) => row.cells[Number(head.dataset.column)].dataset.value ?? "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // rows without a value stay last
        const [m, n] = [Number(x), Number(y)];
        const difference = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return order === "ascending" ? difference : -difference;
      });
      body.append(...rows);
    });
  }
}
