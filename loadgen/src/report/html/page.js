// The pointer reads a chart: the values are those of the chart's own table.
for (const chart of document.querySelectorAll(".chart")) {
  const plot = chart.querySelector(".plot"), cursor = chart.querySelector(".cursor");
  const names = [...chart.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const rows = [...chart.querySelectorAll("tbody tr")];
  const reading = document.createElement("div");
  reading.className = "reading";
  reading.hidden = true;
  chart.append(reading);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = (event.clientX - box.left) * plot.viewBox.baseVal.width / box.width;
    const away = (row) => Math.abs(Number(row.dataset.x) - x);
    const row = rows.reduce((best, row) => (!best || away(row) < away(best) ? row : best), null);
    if (!row) return;
    cursor.setAttribute("transform", `translate(${row.dataset.x} 0)`);
    cursor.style.visibility = "visible";
    reading.replaceChildren(...[...row.cells].map((cell, at) => {
      const line = document.createElement("div");
      line.textContent = `${names[at]}: ${cell.textContent}`;
      return line;
    }));
    reading.hidden = false;
  });
  plot.addEventListener("pointerleave", () => {
    reading.hidden = true;
    cursor.style.visibility = "hidden";
  });
}
