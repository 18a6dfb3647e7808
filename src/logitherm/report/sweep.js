// Draws the figures of the data block, and shows the texts at the temperature of the slider. No number is computed here.
(() => {
  "use strict";
  const DATA = JSON.parse(document.getElementById("logitherm-data").textContent);
  const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false, showTips: false };
  const FOLLOWING = ["loop_rate", "excess"];  // figures that show where the slider stands
  const PRINT_WIDTH = 320;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const byId = (id) => document.getElementById(id);
  const slider = byId("slider"), prompt = byId("prompt");
  let printing = false;

  const figureOf = (name, theme) => structuredClone(DATA.figures[name][theme]);
  const draw = (name) => {
    const figure = figureOf(name, dark.matches && !printing ? "dark" : "light");
    if (FOLLOWING.includes(name) && !printing) {
      const i = Number(slider.value), value = figure.data.find((trace) => trace.meta === "value");
      figure.data.push({ ...value, meta: "here", mode: "markers", x: [value.x[i]], y: [value.y[i]], hoverinfo: "skip", hovertemplate: null,
        marker: { ...value.marker, size: 15, line: { width: 3, color: figure.layout.paper_bgcolor } } });
    }
    if (printing) Object.assign(figure.layout, { width: PRINT_WIDTH, height: 260, autosize: false });
    return Plotly.react(byId(name), figure.data, figure.layout, CONFIG);
  };
  const drawAll = () => Promise.all(Object.keys(DATA.figures).map(draw));

  dark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });

  const list = byId("texts");
  const write = (i, p) => list.replaceChildren(...DATA.texts[i][p].map((text) => {
    const item = document.createElement("li"), asked = document.createElement("span");
    item.tabIndex = 0;
    asked.className = "asked";
    asked.textContent = DATA.asked[p];
    item.append(asked, text);
    return item;
  }));

  // Boxes as high as the longest text of this prompt at any temperature, so that nothing jumps and little is blank.
  const fit = () => {
    list.style.setProperty("--tallest", "1px");
    let tallest = 0;
    for (let i = 0; i < DATA.texts.length; i++) {
      write(i, Number(prompt.value));
      for (const item of list.children) tallest = Math.max(tallest, item.scrollHeight);
    }
    list.style.setProperty("--tallest", tallest + 1 + "px");
    write(Number(slider.value), Number(prompt.value));
    const columns = byId("all-columns");
    byId("more-columns").hidden = columns.scrollWidth <= columns.clientWidth + 1;
  };

  const update = () => {
    const i = Number(slider.value), p = Number(prompt.value);
    for (const [name, text] of Object.entries(DATA.readings[i])) byId("show-" + name).textContent = text;
    slider.setAttribute("aria-valuetext", "T = " + DATA.readings[i].temperature);
    write(i, p);
    return Promise.all(FOLLOWING.map(draw));
  };
  slider.addEventListener("input", update);
  prompt.addEventListener("change", () => { fit(); update(); });
  let width = window.innerWidth;  // that of a phone changes its height while it scrolls
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; fit(); } });

  connectExports(DATA, figureOf);
  fit();
  update();
  drawAll().then(() => document.documentElement.setAttribute("data-ready", "true"));
})();
