"use strict";
// The map: what it is coloured by, the search, and the list of rows that were chosen.
(() => {
  const block = document.getElementById("map-data");
  if (block === null) return;
  const LISTED = 50, NAMED = 31, TOLD = 6;
  const {ids, texts, colourings} = JSON.parse(block.textContent);
  const part = (name) => document.getElementById(`map-${name}`);
  const [colour, find, legend, said, table] =
    ["colour", "find", "legend", "said", "rows"].map(part);
  const number = (count) => count.toLocaleString("en");
  const rowsOf = (count) => `${number(count)} ${count === 1 ? "row" : "rows"}`;
  let source, mapper, dots, sought, reason = "", given = null;

  const element = (name, text, kind = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = kind;
    return made;
  };
  // Whatever direction a text is written in, it turns nothing around it.
  const isolated = (name, text, kind) => {
    const made = element(name, "", kind);
    made.append(element("bdi", text));
    return made;
  };
  const labelOf = (row, place) => colourings[place].labels[source.get_array(`c${place}`)[row]];

  const told = (row) => embedkit.tip(
    isolated("div", texts?.[row] ?? ids[row]),
    ...colourings.slice(0, TOLD).map(({name}, place) => {
      const line = isolated("div", name, "soft");
      line.append(": ", element("bdi", labelOf(row, place)));
      return line;
    }));

  const list = () => {
    const chosen = [...source.selected.indices];
    const place = Number(colour.value);
    table.hidden = chosen.length === 0;
    part("column").textContent = colourings[place].name;
    table.tBodies[0].replaceChildren(...chosen.slice(0, LISTED).map((row) => {
      const line = document.createElement("tr");
      line.append(
        isolated("td", texts === null ? `row ${number(row + 1)} of the map` : texts[row], "text"),
        isolated("td", labelOf(row, place), "small"),
        isolated("td", ids[row], "mono"));
      return line;
    }));
    if (chosen.length === 0) said.textContent = reason && `No row ${reason}.`;
    else {
      const shown = chosen.length > LISTED ? `, the first ${LISTED} are listed` : "";
      said.textContent = `${rowsOf(chosen.length)}${reason && ` ${reason}`}${shown}.`;
    }
  };

  // Rows may be chosen by a pointer as well, and then there is no reason to give.
  const chosenAnew = () => {
    [reason, given] = [given ?? "", null];
    list();
  };
  const choose = (rows, why) => {
    given = why;
    if (rows.length > 0 || source.selected.indices.length > 0) source.selected.indices = rows;
    else chosenAnew();
  };

  const paint = () => {
    const place = Number(colour.value);
    const {labels, counts, colours} = colourings[place];
    mapper.setv({palette: colours, high: colours.length - 0.5});
    const fill = {field: `c${place}`, transform: mapper};
    dots.glyph.fill_color = fill;
    dots.hover_glyph.fill_color = fill;
    legend.replaceChildren(...labels.slice(0, NAMED).map((label, code) => {
      const entry = element("li", "");
      const button = element("button", "");
      button.type = "button";
      const key = element("span", "", "swatch");
      key.style.background = colours[code];
      button.append(key, element("bdi", label), element("span", ` ${number(counts[code])}`, "soft"));
      button.addEventListener("click", () => {
        find.value = "";
        const codes = source.get_array(`c${place}`);
        choose(rowsWhere((row) => codes[row] === code), `of ${label}`);
      });
      entry.append(button);
      return entry;
    }));
  };

  const rowsWhere = (holds) => {
    const found = [];
    for (let row = 0; row < ids.length; row++) if (holds(row)) found.push(row);
    return found;
  };

  const search = () => {
    const word = find.value.trim().toLowerCase();
    if (word === "") return choose([], "");
    sought ??= ids.map((id, row) => (texts === null ? id : `${texts[row]}\n${id}`).toLowerCase());
    return choose(rowsWhere((row) => sought[row].includes(word)), `with “${find.value.trim()}”`);
  };

  embedkit.drawn.then(() => {
    const models = Bokeh.documents[0];
    [source, mapper, dots] =
      ["map-rows", "map-colours", "map-dots"].map((name) => models.get_model_by_name(name));
    models.get_model_by_name("map-hover").tooltips = (_, {index}) => told(index);
    colourings.forEach(({name}, place) => {
      const option = element("option", name);
      option.value = place;
      colour.append(option);
    });
    colour.addEventListener("change", () => { paint(); list(); });
    let waiting = 0;
    find.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(search, 150);
    });
    source.selected.change.connect(chosenAnew);
    paint();
    document.getElementById("map").hidden = false;
    document.getElementById("map-list").hidden = false;
    // A finger that moves over the map is to move the page.
    if (matchMedia("(pointer: coarse)").matches) {
      models.get_model_by_name("map-lasso").active = false;
    }
  });
})();
