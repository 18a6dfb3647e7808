// Draws the map, and the head that is chosen on it. No number is computed here.
(() => {
  "use strict";
  const DATA = JSON.parse(document.getElementById("logitherm-data").textContent);
  const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };
  const PRINT_WIDTH = 640;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);
  const slider = byId("slider"), quantity = byId("quantity"), layer = byId("layer"), number = byId("number");
  const turns = "temperatures" in DATA.figures;
  let printing = false;

  const head = () => [Number(layer.value), Number(number.value)];
  const trace = (figure, meta) => figure.data.find((each) => each.meta === meta);
  const fills = {
    heads: (figure) => {
      const [i, j] = head();
      figure.layout.shapes = [{ type: "rect", x0: j - 0.5, x1: j + 0.5, y0: i - 0.5, y1: i + 0.5, line: { color: figure.layout.font.color, width: 2.5 } }];
    },
    positions: (figure) => {
      const [i, j] = head(), rows = DATA.study.positions[quantity.value][i], value = trace(figure, "value"), others = trace(figure, "others");
      value.x = DATA.places;
      value.y = rows[j];
      rows.forEach((row, n) => { if (n !== j) { others.x.push(...DATA.places, null); others.y.push(...row, null); } });
      const form = DATA.quantities[quantity.value].form;
      figure.layout.yaxis.tickformat = form === ".0%" ? ".0%" : undefined;
      if (quantity.value === "normalised_entropy" || form === ".0%") figure.layout.yaxis.range = [-0.02, 1.03];
      else figure.layout.yaxis.rangemode = "tozero";
    },
    temperatures: (figure) => {
      const [i, j] = head(), n = Number(slider.value);
      for (const name of ["entropy", "top_probability"]) {
        const line = trace(figure, name), row = DATA.study.temperatures[name][i][j];
        line.y = row;
        figure.data.push({ ...line, meta: "here", mode: "markers", x: [line.x[n]], y: [row[n]], hoverinfo: "skip", hovertemplate: null,
          marker: { color: line.line.color, size: 14, line: { width: 3, color: figure.layout.paper_bgcolor } } });
      }
    },
  };
  const figureOf = (name, theme) => {
    const figure = structuredClone(DATA.figures[name === "heads" ? "map-" + quantity.value : name][theme]);
    fills[name](figure);
    return figure;
  };
  const draw = (name) => {
    const figure = figureOf(name, dark.matches && !printing ? "dark" : "light");
    if (printing) Object.assign(figure.layout, { width: PRINT_WIDTH, autosize: false });
    return Plotly.react(byId(name), figure.data, figure.layout, CONFIG);
  };
  const read = () => {
    if (!turns) return;
    const [i, j] = head(), reading = DATA.readings[i][j][Number(slider.value)];
    for (const [name, text] of Object.entries(reading)) byId("show-" + name).textContent = text;
    slider.setAttribute("aria-valuetext", "T times " + reading.relative);
  };
  const drawAll = () => {
    const [i, j] = head();
    byId("show-about").textContent = DATA.about[i][j];
    byId("show-quantity").textContent = DATA.quantities[quantity.value].name.toLowerCase();
    read();
    return Promise.all(["heads", "positions", ...(turns ? ["temperatures"] : [])].map(draw));
  };
  const offer = (chosen) => {  // the heads of the layer
    number.replaceChildren(...DATA.about[Number(layer.value)].map((_, j) => new Option(String(j), String(j))));
    number.value = String(Math.min(chosen, number.length - 1));
  };

  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  quantity.addEventListener("change", drawAll);
  layer.addEventListener("change", () => { offer(Number(number.value)); drawAll(); });
  number.addEventListener("change", drawAll);
  slider.addEventListener("input", () => { read(); draw("temperatures"); });
  const fit = () => {
    const columns = byId("all-columns");
    byId("more-columns").hidden = columns.scrollWidth <= columns.clientWidth + 1;
  };
  window.addEventListener("resize", fit);

  connectExports(DATA, figureOf);
  layer.value = String(DATA.start[0]);
  offer(DATA.start[1]);
  fit();
  drawAll().then(() => {
    byId("heads").on("plotly_click", (event) => {
      const { x, y } = event.points[0];
      if (x >= DATA.about[y].length) return;
      layer.value = String(y);
      offer(x);
      drawAll();
    });
    document.documentElement.setAttribute("data-ready", "true");
  });
})();
