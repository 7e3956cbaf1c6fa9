"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const short = v => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString() : Number(v.toPrecision(4)).toString();
  const percent = v => {
    const digits = Math.max(0, Math.min(6, Math.ceil(Math.log10(v)) - 1));
    return (100 * (1 - 1 / v)).toFixed(digits) + "%";
  };
  const position = ([low, high, from, to], log, v) => {
    const f = log ? Math.log : x => x;
    return from + (f(v) - f(low)) / (f(high) - f(low)) * (to - from);
  };
  // nearest is the index of the value whose position is closest to x.
  const nearest = (plot, series, x) => {
    let best = -1, least = Infinity;
    series.X.forEach((v, i) => {
      if (v === null || series.Y[i] === null) return;
      const far = Math.abs(position(plot.X, plot.LogX, v) - x);
      if (far < least) { best = i; least = far; }
    });
    return best;
  };

  const row = (series, value) => {
    const div = document.createElement("div"), swatch = document.createElement("span"), bold = document.createElement("b");
    swatch.className = "swatch " + series.Class;
    bold.textContent = value;
    div.append(swatch, series.Name ? series.Name + " " : "", bold);
    return div;
  };

  for (const svg of document.querySelectorAll("svg[data-plot]")) {
    const plot = JSON.parse(svg.dataset.plot);
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
    cursor.setAttribute("class", "cursor");
    svg.append(cursor);
    const hide = () => { tip.hidden = true; cursor.removeAttribute("d"); };
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", e => {
      const box = svg.getBoundingClientRect();
      const x = (e.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const found = plot.Series.map(s => [s, nearest(plot, s, x)]).filter(([, i]) => i >= 0);
      if (x < plot.X[2] - 8 || x > plot.X[3] + 8 || found.length === 0) return hide();
      const [first, at] = found[0], v = first.X[at];
      cursor.setAttribute("d", `M${position(plot.X, plot.LogX, v)} ${plot.Y[3]}V${plot.Y[2]}`);
      const head = document.createElement("div");
      head.className = "soft";
      head.textContent = plot.Percentile ? percent(v) : `${plot.XLabel}: ${short(v)}`;
      tip.replaceChildren(head, ...found.map(([s, i]) => row(s, short(s.Y[i]))));
      tip.hidden = false;
      const left = e.clientX + 16 + tip.offsetWidth > innerWidth ? e.clientX - 16 - tip.offsetWidth : e.clientX + 16;
      tip.style.left = left + "px";
      tip.style.top = Math.min(e.clientY + 12, innerHeight - tip.offsetHeight - 8) + "px";
    });
  }
})();
