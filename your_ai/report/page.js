"use strict";

const specs = JSON.parse(document.getElementById("specs").textContent);

/** The style of every chart. */
const config = {
  background: "transparent",
  font: "system-ui, sans-serif",
  autosize: { type: "fit-x", contains: "padding" },
  view: { stroke: null },
  axis: {
    labelColor: "currentColor",
    titleColor: "currentColor",
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: "normal",
    domainColor: "var(--line)",
    tickColor: "var(--line)",
    gridColor: "var(--line)",
  },
  axisX: { tickCount: 6 },
  axisY: { tickCount: 5 },
  text: { color: "currentColor", fontSize: 12 },
};

/** Draws a chart in its place, once. */
async function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "begun";
  const runtime = vega.parse(vegaLite.compile(specs[place.dataset.chart], { config }).spec);
  await new vega.View(runtime, { renderer: "svg", container: place, hover: true }).runAsync();
  place.dataset.drawn = "done";
}

for (const place of document.querySelectorAll("[data-chart]")) {
  const details = place.closest("details");
  // What is closed has no width to draw in, and a long night's hundreds of charts take a while.
  if (details && !details.open) details.addEventListener("toggle", () => draw(place), { once: true });
  else draw(place);
}

/** A link to a trial opens it. */
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
