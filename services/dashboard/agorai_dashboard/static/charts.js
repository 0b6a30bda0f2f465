// Draws each chart from the table beneath it, which stays for those who do not see the drawing.
"use strict";

const drawn = new Map(); // by figure

const WRITE = {
  number: (value) => value.toLocaleString("en-GB", { maximumFractionDigits: 1 }),
  tokens: (value) => value.toLocaleString("en-GB", { maximumFractionDigits: 4 }),
  percent: (value) => `${value.toLocaleString("en-GB", { maximumFractionDigits: 2 })}\u202f%`,
};

function colour(name, within) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  within.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faint(rgb, share) {
  return rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);
}

function clock(seconds, spanned) {
  const style = spanned < 2 * 86400 ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
  if (spanned < 600) style.second = "2-digit";
  return new Date(seconds * 1000).toLocaleString("en-GB", { ...style, timeZone: "UTC" });
}

function read(figure) {
  const table = figure.querySelector("table");
  const heads = [...table.tHead.rows[0].cells].slice(1).filter((cell) => !("aside" in cell.dataset));
  const rows = [...table.tBodies[0].rows].map((row) => ({
    x: row.cells[0].dataset.value,
    label: row.cells[0].innerText.trim().replace(/\s+/g, " "),
    values: heads.map((_, index) => {
      const text = row.cells[index + 1].dataset.value ?? "";
      return text === "" ? null : Number(text);
    }),
  }));
  return { names: heads.map((cell) => cell.textContent), rows };
}

function series(figure, { names, rows }) {
  const timed = figure.dataset.x === "time";
  const kind = figure.dataset.chart;
  return names.map((name, index) => {
    const stroke = colour(`--series-${(index % 6) + 1}`, figure);
    const values = rows.map((row) => row.values[index]);
    const negative = colour("--bad", figure);
    return {
      label: name,
      data: timed
        ? rows.map((row, at) => ({ x: Number(row.x), y: values[at] })).filter((point) => point.y !== null)
        : values,
      borderColor: stroke,
      backgroundColor: kind === "bar" ? values.map((value) => (value < 0 ? negative : stroke)) : faint(stroke, 0.1),
      borderWidth: kind === "bar" ? 0 : 2,
      borderRadius: 4,
      maxBarThickness: 44,
      pointRadius: rows.length > 60 ? 0 : 2.5,
      pointHoverRadius: 5,
      pointBackgroundColor: stroke,
      stepped: kind === "steps" ? "before" : false,
      tension: kind === "line" ? 0.2 : 0,
      fill: kind !== "bar" && names.length <= 2 ? "origin" : false,
      spanGaps: true,
    };
  });
}

function options(figure, data) {
  const [text, line] = [colour("--muted", figure), colour("--line", figure)];
  const style = getComputedStyle(figure);
  const write = WRITE[figure.dataset.format];
  const timed = figure.dataset.x === "time";
  const times = data.rows.map((row) => Number(row.x));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const spanned = timed ? last - first : 0;
  const ticks = { color: text, maxRotation: 0, autoSkipPadding: 18 };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || drawn.has(figure.id);
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: still ? false : { duration: 500 },
    interaction: { mode: "index", intersect: false, axis: "x" },
    scales: {
      x: {
        type: timed ? "linear" : "category",
        grid: { display: false },
        border: { color: line },
        ticks: timed ? { ...ticks, callback: (value) => clock(value, spanned), maxTicksLimit: 7 } : ticks,
        ...(timed ? { min: spanned ? first : first - 60, max: spanned ? last : last + 60 } : {}),
      },
      y: {
        grid: { color: line },
        border: { display: false },
        ticks: { ...ticks, callback: (value) => write(value), maxTicksLimit: 6 },
        grace: "6%",
        beginAtZero: figure.dataset.format !== "percent",
      },
    },
    plugins: {
      legend: {
        display: data.names.length > 1,
        position: "bottom",
        align: "start",
        labels: {
          color: text,
          font: data.names[0]?.startsWith("0x") ? { family: style.getPropertyValue("--mono"), size: 11 } : {},
          usePointStyle: true,
          pointStyle: "circle",
          boxHeight: 6,
          padding: 14,
        },
      },
      tooltip: {
        backgroundColor: colour("--text", figure),
        titleColor: colour("--surface", figure),
        bodyColor: colour("--surface", figure),
        padding: 10,
        cornerRadius: 7,
        usePointStyle: true,
        callbacks: {
          title: ([item]) => (timed ? new Date(item.parsed.x * 1000).toUTCString() : data.rows[item.dataIndex].label),
          label: (item) => ` ${item.dataset.label}: ${write(item.parsed.y)}`,
        },
      },
    },
  };
}

function draw(figure) {
  const canvas = figure.querySelector("canvas");
  const before = drawn.get(figure.id);
  before?.destroy();
  const data = canvas === null ? { rows: [] } : read(figure);
  figure.classList.toggle("without-values", data.rows.length === 0);
  if (data.rows.length === 0) {
    drawn.delete(figure.id);
    return;
  }
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const chart = new Chart(canvas, {
    type: figure.dataset.chart === "bar" ? "bar" : "line",
    data: { labels: figure.dataset.x === "time" ? undefined : data.rows.map((row) => row.x), datasets: series(figure, data) },
    options: options(figure, data),
  });
  drawn.set(figure.id, chart);
}

for (const figure of document.querySelectorAll("figure[data-chart]")) draw(figure);
document.addEventListener("agorai:redraw", (event) => {
  const within = event.target === document ? document : event.target;
  if (within !== document && within.matches("figure[data-chart]")) draw(within);
  for (const figure of within.querySelectorAll("figure[data-chart]")) draw(figure);
});
