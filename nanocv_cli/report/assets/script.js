"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const tip = document.getElementById("tip");

  function showTip(lines, x, y) {
    tip.replaceChildren(...lines.map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const room = tip.getBoundingClientRect();
    const left = x + 16 + room.width > window.innerWidth ? x - 16 - room.width : x + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 16, window.innerHeight - room.height - 4))}px`;
  }

  function mark(name, attributes) {
    const part = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    return part;
  }

  for (const svg of document.querySelectorAll("svg[data-chart]")) {
    const chart = JSON.parse(svg.dataset.chart);
    const cursor = svg.querySelector(".cursor");
    let at = chart.xs.length - 1;

    function hide() {
      cursor.replaceChildren();
      tip.hidden = true;
    }

    function show(place, x, y) {
      at = place;
      const px = chart.xs[at];
      const marks = [mark("line", {x1: px, x2: px, y1: chart.top, y2: chart.bottom})];
      const lines = [`${chart.across} ${chart.texts[at]}`];
      chart.lines.forEach((line, number) => {
        if (line.ys[at] === null) return;
        lines.push(`${line.name}: ${line.texts[at]}`);
        marks.push(mark("circle", {cx: px, cy: line.ys[at], r: 5, class: `line-${number % 10}`}));
      });
      cursor.replaceChildren(...marks);
      showTip(lines, x, y);
    }

    function showByKey() {
      const frame = svg.getBoundingClientRect();
      const scale = frame.width / svg.viewBox.baseVal.width;
      show(at, frame.left + chart.xs[at] * scale, frame.top + chart.top * scale);
    }

    function showByPointer(event) {
      const frame = svg.getBoundingClientRect();
      const wanted = (event.clientX - frame.left) * svg.viewBox.baseVal.width / frame.width;
      let nearest = 0;
      chart.xs.forEach((x, place) => {
        if (Math.abs(x - wanted) < Math.abs(chart.xs[nearest] - wanted)) nearest = place;
      });
      show(nearest, event.clientX, event.clientY);
    }

    svg.addEventListener("pointermove", showByPointer);
    svg.addEventListener("pointerdown", showByPointer);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) showByKey(); });
    svg.addEventListener("keydown", (event) => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      at = Math.max(0, Math.min(chart.xs.length - 1, at + step));
      showByKey();
    });
  }

  for (const point of document.querySelectorAll("[data-tip]")) {
    const lines = point.dataset.tip.split("; ");
    point.addEventListener("pointermove", (event) => showTip(lines, event.clientX, event.clientY));
    point.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  function sortable(row, place) {
    const cell = row.cells[place];
    const figure = cell.dataset.value === undefined ? cell.querySelector("[data-value]") : cell;
    return figure ? Number(figure.dataset.value) : cell.textContent;
  }

  function compared(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((left, right) => {
        const order = compared(sortable(left, place), sortable(right, place));
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    }));
  }

  const folded = () => document.querySelectorAll("details");
  window.addEventListener("beforeprint", () => folded().forEach((part) => {
    part.dataset.open = part.open;
    part.open = true;
  }));
  window.addEventListener("afterprint", () => folded().forEach((part) => { part.open = part.dataset.open === "true"; }));
})();
