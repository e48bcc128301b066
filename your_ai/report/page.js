"use strict";

const specs = JSON.parse(document.getElementById("specs").textContent);

/** The style of every chart. */
const config = {
  background: "transparent",
  font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  autosize: { type: "fit-x", contains: "padding" },
  padding: 2,
  view: { stroke: null },
  axis: {
    labelColor: "var(--soft)",
    titleColor: "var(--soft)",
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: "normal",
    domainColor: "var(--line)",
    tickColor: "var(--line)",
    gridColor: "var(--line)",
  },
  axisX: { tickCount: 6 },
  axisY: { tickCount: 5, domain: false, ticks: false, labelPadding: 6 },
  text: { color: "currentColor", fontSize: 12 },
};

/** Draw a chart, unless it was drawn before. */
async function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "begun";
  const runtime = vega.parse(vegaLite.compile(specs[place.dataset.chart], { config }).spec);
  await new vega.View(runtime, { renderer: "svg", container: place, hover: true }).runAsync();
  place.dataset.drawn = "done";
}

/** Open the trial that a link's hash is the address of; the browser scrolls to it. */
function openTrial(hash) {
  const target = hash && document.getElementById(hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

for (const place of document.querySelectorAll("[data-chart]")) {
  const details = place.closest("details");
  // A folded trial has no width to draw in, and drawing hundreds of charts takes a while.
  if (details && !details.open) details.addEventListener("toggle", () => draw(place), { once: true });
  else draw(place);
}

// A second click on the same link is no change of the hash.
for (const link of document.querySelectorAll("a[href^='#trial-']")) {
  link.addEventListener("click", () => openTrial(link.hash));
}
addEventListener("hashchange", () => openTrial(location.hash));
openTrial(location.hash);
