// The buttons that save a table as CSV or JSON, a figure as SVG, or all numbers.
const connectExports = (DATA, figureOf) => {
  "use strict";
  const SVG_WIDTH = 640;
  const save = (text, type, filename) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = filename;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    const text = String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (table) => {
    const names = Object.keys(table), rows = table[names[0]].map((_, i) => names.map((name) => cell(table[name][i])).join(","));
    return [names.map(cell).join(","), ...rows].join("\r\n") + "\r\n";
  };
  const exports = {
    csv: (name) => save(csv(DATA.tables[name]), "text/csv;charset=utf-8", `${DATA.stem}-${name}.csv`),
    json: (name) => save(JSON.stringify(DATA.tables[name], null, 1) + "\n", "application/json", `${DATA.stem}-${name}.json`),
    svg: (name) => {  // always light: it is for paper and slides, whatever the screen shows
      const figure = figureOf(name, "light"), { height } = figure.layout;
      return Plotly.downloadImage(figure, { format: "svg", width: SVG_WIDTH, height, filename: `${DATA.stem}-${name}` });
    },
    study: () => save(JSON.stringify(DATA.study, null, 1) + "\n", "application/json", `${DATA.stem}-report.json`),
  };
  for (const button of document.querySelectorAll("button[data-export]")) {
    button.addEventListener("click", () => exports[button.dataset.export](button.dataset.figure));
  }
};
