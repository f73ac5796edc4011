// Pictures and tables to keep.

import { css } from "./palette.js";

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export function savePng(chart, caption) {
  const source = chart.plot.ctx.canvas;
  const ratio = source.width / chart.plot.width;
  const canvas = document.createElement("canvas");
  const rows = Math.ceil(caption.entries.length / 3);
  canvas.width = source.width + 40 * ratio;
  canvas.height = source.height + (90 + 22 * rows) * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = css("--card");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = css("--ink");
  pen.font = "650 20px Inter, system-ui, sans-serif";
  pen.fillText(caption.title, 24, 36);
  pen.fillStyle = css("--muted");
  pen.font = "13px Inter, system-ui, sans-serif";
  pen.fillText(caption.sub, 24, 58);
  pen.drawImage(source, 16, 74, chart.plot.width, chart.plot.height);
  const column = chart.plot.width / 3;
  caption.entries.forEach((entry, place) => {
    const x = 24 + (place % 3) * column, y = 74 + chart.plot.height + 18 + 22 * Math.floor(place / 3);
    pen.strokeStyle = entry.colour;
    pen.lineWidth = 3;
    pen.setLineDash(entry.dash ? [5, 3] : []);
    pen.beginPath();
    pen.moveTo(x, y - 4);
    pen.lineTo(x + 18, y - 4);
    pen.stroke();
    pen.fillStyle = css("--ink");
    pen.fillText(entry.label, x + 26, y, column - 34);
  });
  canvas.toBlob((blob) => save(`${caption.name}.png`, blob), "image/png");
}

export function saveSvg(chart, caption) {
  save(`${caption.name}.svg`, new Blob([svgOf(chart, caption)], { type: "image/svg+xml" }));
}

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" }[one]));
}

export function svgOf(chart, caption) {
  const { plot } = chart;
  const width = plot.width + 40, top = 74, rows = Math.ceil(caption.entries.length / 3);
  const height = top + plot.height + 24 + 22 * rows;
  const left = plot.over.offsetLeft + 16, high = plot.over.offsetTop + top;
  const wide = plot.over.clientWidth, tall = plot.over.clientHeight;
  const at = (x, y) => [left + plot.valToPos(x, "x"), high + plot.valToPos(y, "y")].map((one) => one.toFixed(1)).join(",");
  const there = (xs, ys) => xs.map((x, place) => [x, ys[place]]).filter(([, y]) => y !== null && y !== undefined);
  const out = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="Inter, system-ui, sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="${css("--card")}"/>`,
    `<text x="24" y="36" font-size="20" font-weight="650" fill="${css("--ink")}">${escaped(caption.title)}</text>`,
    `<text x="24" y="58" fill="${css("--muted")}">${escaped(caption.sub)}</text>`,
    `<clipPath id="area"><rect x="${left}" y="${high}" width="${wide}" height="${tall}"/></clipPath>`];
  for (const value of ticks(plot.scales.y)) {
    const y = high + plot.valToPos(value, "y");
    out.push(`<path d="M${left} ${y}h${wide}" stroke="${css("--grid")}"/><text x="${left - 8}" y="${y + 4}" text-anchor="end" fill="${css("--muted")}">${escaped(chart.options.yText(value))}</text>`);
  }
  for (const value of ticks(plot.scales.x)) {
    out.push(`<text x="${left + plot.valToPos(value, "x")}" y="${high + tall + 20}" text-anchor="middle" fill="${css("--muted")}">${escaped(chart.options.xText(value))}</text>`);
  }
  out.push('<g clip-path="url(#area)">');
  for (const line of chart.lines) {
    const xs = line.x ?? plot.data[0], points = there(xs, line.y);
    if (line.dots) { out.push(...points.map(([x, y]) => `<circle cx="${at(x, y).replace(",", '" cy="')}" r="2" fill="${line.colour}" opacity=".3"/>`)); continue; }
    if (line.low) {
      const band = [...there(xs, line.high), ...there(xs, line.low).reverse()].map(([x, y]) => at(x, y));
      out.push(`<polygon points="${band.join(" ")}" fill="${line.colour}" opacity=".15"/>`);
    }
    out.push(`<polyline points="${points.map(([x, y]) => at(x, y)).join(" ")}" fill="none" stroke="${line.colour}" stroke-width="${line.width ?? 2}" opacity="${line.faint ? 0.4 : 1}" stroke-linejoin="round" stroke-linecap="round"${line.dash ? ` stroke-dasharray="${line.dash.join(" ")}"` : ""}/>`);
  }
  for (const level of chart.levels) out.push(`<path d="M${left} ${high + plot.valToPos(level.y, "y")}h${wide}" stroke="${level.colour}" stroke-dasharray="4 4"/>`);
  out.push("</g>");
  caption.entries.forEach((entry, place) => {
    const x = 24 + (place % 3) * (plot.width / 3), y = top + plot.height + 18 + 22 * Math.floor(place / 3);
    out.push(`<path d="M${x} ${y - 4}h18" stroke="${entry.colour}" stroke-width="3"${entry.dash ? ' stroke-dasharray="5 3"' : ""}/><text x="${x + 26}" y="${y}" fill="${css("--ink")}">${escaped(entry.label)}</text>`);
  });
  return `${out.join("\n")}\n</svg>\n`;
}

function ticks({ min, max }) {
  const rough = (max - min) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const out = [];
  for (let value = Math.ceil(min / step) * step; value <= max; value += step) out.push(Number(value.toPrecision(10)));
  return out;
}

export function saveCsv(name, answer) {
  const rows = [["group", "label", "run", "n", "x", "y", "low", "high"]];
  for (const group of answer.groups ?? []) {
    group.x.forEach((x, place) => rows.push([group.id, group.label, "", group.n, x, group.y[place], group.low[place], group.high[place]]));
    for (const seed of group.seeds) group.x.forEach((x, place) => rows.push([group.id, group.label, seed.name, 1, x, seed.y[place], "", ""]));
  }
  for (const one of answer.baselines ?? []) if (one.level === null) one.x.forEach((x, place) => rows.push(["published", one.name, "", one.n, x, one.y[place], one.low[place], one.high[place]]));
  for (const line of answer.lines ?? []) answer.x.forEach((x, place) => { if (line.y[place] !== null) rows.push([line.group, line.name, line.name, 1, x, line.y[place], "", ""]); });
  const cell = (value) => {
    let text = String(value ?? "");
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // no formula where it is opened
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  save(`${name}.csv`, new Blob([`${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`], { type: "text/csv" }));
}
