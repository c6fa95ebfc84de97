"use strict";
// Draws the plots of the page from the data in it.
(() => {
  const {document: content, roots} = JSON.parse(document.getElementById("plots").textContent);
  const places = {};
  roots.forEach((root, number) => { places[root] = `plot-${number + 1}`; });
  const drawn = Bokeh.embed.embed_items(
    {page: content}, [{docid: "page", roots: places, root_ids: roots}]);

  const views = () => roots.map((root) => Bokeh.index.get_by_id(root)).filter(Boolean);
  // Colours are those of the page's style; a plot takes them when it is painted, which must be over
  // before a page is printed.
  const paint = () => views().forEach((view) => {
    view.invalidate_painters();
    view.paint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printed");
    paint();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printed");
    paint();
  });
  // What is told of a bar or a dot stands in a tree of its own, where only a style in it reaches.
  const tip = (...parts) => {
    const made = document.createElement("div"), style = document.createElement("style");
    style.textContent = `:host {
      --tooltip-color: var(--card) !important; --tooltip-text: var(--ink) !important;
      --tooltip-border: var(--soft) !important; --tooltip-arrow-color: var(--card) !important;
      max-width: min(24rem, 44vw); overflow-wrap: anywhere; }
      .soft { color: var(--soft); }`;
    made.append(style, ...parts);
    return made;
  };
  drawn.then(() => {
    for (const tool of Bokeh.documents[0].all_models)
      if (tool.type === "HoverTool")
        tool.tooltips = (source, {index}) => tip(source.get_array("told")[index]);
  });
  window.embedkit = {drawn, tip};
})();
