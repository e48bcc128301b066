"use strict";

const specs = JSON.parse(document.getElementById("specs").textContent);

/** Draws a chart in its place, once. */
async function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "begun";
  const runtime = vega.parse(vegaLite.compile(specs[place.dataset.chart]).spec);
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
