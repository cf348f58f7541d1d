// Draws every figure in the page's own colours, again when the colour scheme changes, and runs the legends.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const coarse = matchMedia("(pointer: coarse)");
  const config = { displaylogo: false, responsive: true, scrollZoom: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  const LIGHT_PRINT = { "--text": "#000000", "--muted": "#444444", "--grid": "#dddddd", "--surface": "#ffffff", "--line": "#cccccc" };
  function theme(printing) {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => (printing ? LIGHT_PRINT[name] : style.getPropertyValue(name).trim());
    return { text: get("--text"), muted: get("--muted"), grid: get("--grid"), surface: get("--surface"), line: get("--line"), font: style.getPropertyValue("--sans").trim() };
  }

  function styled(layout, colors) {
    const size = narrow.matches ? 11 : 12.5;
    const done = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colors.font, size, color: colors.text },
      hoverlabel: { ...layout.hoverlabel, bgcolor: colors.surface, bordercolor: colors.line, font: { family: colors.font, size: 12.5, color: colors.text } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colors.muted, activecolor: colors.text },
      dragmode: coarse.matches ? false : "zoom",
    };
    for (const key of Object.keys(done)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      done[key] = { ...done[key], gridcolor: colors.grid, linecolor: colors.line, tickfont: { color: colors.muted, size }, fixedrange: coarse.matches };
      if (done[key].title) done[key].title = { ...done[key].title, font: { color: colors.muted, size } };
    }
    return done;
  }

  const hidden = {}; // plot -> series a reader switched off
  function data(id) {
    return figures[id].data.map((trace) => ({ ...trace, visible: !(hidden[id] && hidden[id].has(trace.legendgroup)) }));
  }
  // One plot at a time, so that the page can be read and scrolled meanwhile; a newer drawing ends an older one.
  let drawing = 0;
  async function draw(pause = true, printing = false) {
    const mine = ++drawing;
    const colors = theme(printing);
    for (const [id, figure] of Object.entries(figures)) {
      Plotly.react(id, data(id), styled(figure.layout, colors), config);
      if (pause) await new Promise((resolve) => setTimeout(resolve));
      if (mine !== drawing) return;
    }
    document.documentElement.dataset.drawn = dark.matches && !printing ? "dark" : "light";
  }

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const { plot, series } = button.dataset;
      const off = (hidden[plot] ??= new Set());
      if (off.has(series)) off.delete(series); else off.add(series);
      button.setAttribute("aria-pressed", String(!off.has(series)));
      Plotly.react(plot, data(plot), styled(figures[plot].layout, theme(false)), config);
    });
  }

  // The entry of the section that is being read.
  const entries = new Map([...document.querySelectorAll(".toc ol a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((changes) => {
    for (const { isIntersecting, target } of changes) {
      if (!isIntersecting) continue;
      for (const a of entries.values()) a.removeAttribute("aria-current");
      entries.get(target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);

  dark.addEventListener("change", () => draw());
  narrow.addEventListener("change", () => draw());
  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; draw(false, true); });
  addEventListener("afterprint", () => draw());
  draw();
})();
