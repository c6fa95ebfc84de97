"use strict";
// Draws the plots of the page from the data in it.
(() => {
  const {document: content, roots} = JSON.parse(document.getElementById("plots").textContent);
  const places = {};
  roots.forEach((root, number) => { places[root] = `plot-${number + 1}`; });
  const drawn = Bokeh.embed.embed_items(
    {page: content}, [{docid: "page", roots: places, root_ids: roots}]);

  const views = () => roots.map((root) => Bokeh.index.get_by_id(root)).filter(Boolean);
  // Colours are those of the page's style; a plot takes them when it is painted.
  const paint = () => views().forEach((view) => view.paint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printed");
    paint();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printed");
    paint();
  });
  window.embedkit = {drawn};
})();
