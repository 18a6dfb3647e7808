// Draws the figures of the data block, moves the slider over the precomputed grid, exports the numbers. No number is computed here.
(() => {
  "use strict";
  const DATA = JSON.parse(document.getElementById("logitherm-data").textContent);
  const GRID = DATA.study.reliability.grid;
  const FIT = DATA.study.fit;
  const FITTED = FIT.at_bound ? null : FIT.temperature;
  const CONFIG = { displayModeBar: false, scrollZoom: false, doubleClick: false, showTips: false };
  const PRINT = { width: 320, height: 300 };
  const LEAST_WIDTH = 100;  // below it margins would have to give way, and Plotly would keep them so
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 820px)");
  const NARROW_HEIGHT = 320;  // so that diagram, slider and reading share the screen of a phone
  const byId = (id) => document.getElementById(id);
  const slider = byId("slider");
  let printing = false;

  // ---- figures -------------------------------------------------------------------------------------------------------
  const gapLines = (diagram) => {
    const x = [], y = [];
    diagram.confidence.forEach((c, i) => {
      const a = diagram.accuracy[i];
      if (c !== null && a !== null) { x.push(c, c, null); y.push(c, a, null); }
    });
    return { x, y };
  };

  const atTemperature = (traces, diagram) => {
    for (const trace of traces) {
      if (trace.meta === "accuracy") {
        trace.x = diagram.confidence;
        trace.y = diagram.accuracy;
        trace.customdata = diagram.count.map((n) => [n, null, null]);
      } else if (trace.meta === "gap") {
        Object.assign(trace, gapLines(diagram));
      } else if (trace.meta === "count") {
        trace.y = diagram.count;
      }
    }
  };

  const figureOf = (name, theme) => {
    const figure = structuredClone(DATA.figures[name][theme]);
    if (name === "slider-diagram") atTemperature(figure.data, GRID.diagrams[Number(slider.value)]);
    return figure;
  };

  const draw = (name) => {
    const figure = figureOf(name, dark.matches && !printing ? "dark" : "light");
    const width = widthOf(name);
    if (width < LEAST_WIDTH && !printing) return Promise.resolve();
    if (name === "slider-diagram" && narrow.matches) figure.layout.height = NARROW_HEIGHT;
    Object.assign(figure.layout, { width, autosize: false }, printing ? PRINT : {});
    return Plotly.react(byId(name), figure.data, figure.layout, CONFIG);
  };
  const widthOf = (name) => Math.floor(byId(name).getBoundingClientRect().width);
  const drawAll = () => Promise.all(Object.keys(DATA.figures).map(draw));
  const fit = (name) => { if (!printing && byId(name).layout?.width !== widthOf(name)) draw(name); };
  const resized = new ResizeObserver((entries) => requestAnimationFrame(() => entries.forEach((entry) => fit(entry.target.id))));

  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", () => draw("slider-diagram"));
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });

  // ---- slider --------------------------------------------------------------------------------------------------------
  const logs = GRID.temperature.map(Math.log);
  const position = (t) => {  // where T stands on the steps of the slider, between two of them if need be
    const at = Math.log(t), last = logs.length - 1;
    if (at <= logs[0]) return 0;
    if (at >= logs[last]) return last;
    const i = logs.findIndex((v) => v > at) - 1;
    return i + (at - logs[i]) / (logs[i + 1] - logs[i]);
  };
  const update = () => {
    const i = Number(slider.value);
    for (const [name, text] of Object.entries(DATA.readings[i])) byId("show-" + name).textContent = text;
    slider.setAttribute("aria-valuetext", "T = " + DATA.readings[i].temperature);
    return draw("slider-diagram");
  };
  const goTo = (t) => { slider.value = String(Math.round(position(t))); update(); };
  const mark = (id, t) => {  // the thumb is 16 px wide, so its centre runs from 8 px to 100 % - 8 px
    const share = position(t) / (logs.length - 1);
    byId(id).style.left = `calc(8px + ${share} * (100% - 16px))`;
  };

  slider.addEventListener("input", update);
  byId("go-one").addEventListener("click", () => goTo(1));
  mark("mark-one", 1);
  if (FITTED === null) {
    byId("go-fitted").disabled = true;
    byId("go-fitted").title = "No finite temperature was fitted";
    byId("mark-fitted").hidden = true;
  } else {
    byId("go-fitted").addEventListener("click", () => goTo(FITTED));
    mark("mark-fitted", FITTED);
  }

  connectExports(DATA, figureOf);
  update();
  Object.keys(DATA.figures).forEach((name) => resized.observe(byId(name)));
  drawAll().then(() => document.documentElement.setAttribute("data-ready", "true"));
})();
