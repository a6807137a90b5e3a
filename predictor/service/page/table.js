// Tables that sort by a click on a column's title, and that stay quick with a thousand rows.
import { button, element, say } from "./dom.js";

/**
 * A table of `items`. `columns` are {title, key(item), cell(item), numeric, up, head, narrow}: `key`
 * makes it sortable, `up` says that it sorts upwards first, `head` that it names its row; `note` stands under the title. `detail`
 * makes the second row that an item opens, and every item has a tbody of its own, so that both move
 * together. Rows are made when they are first shown; beyond `limit` a button shows the rest. A `tall`
 * table scrolls under its titles, so that what follows it stays in reach.
 */
export function dataTable({ label, columns, items, sorted, limit = Infinity, row, more = "rows", tall = false }) {
  let order = [...items], up = true, by = null, shown = limit;
  const made = new Map();
  const heads = columns.map((column) => headOf(column));
  const table = element("table", { "aria-label": label }, element("thead", {}, element("tr", {}, heads)));
  const rest = element("p", { class: "below" });
  const scroll = element("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": `${label}, table` }, table);

  function headOf(column) {
    const text = column.key ? button(column.title, () => sort(column)) : element("span", {}, column.title);
    const kind = [column.numeric && "num", column.narrow && "narrow", column.wide && "wide"].filter(Boolean).join(" ");
    return element("th", { scope: "col", class: kind || null }, text, column.note ? element("small", {}, column.note) : null);
  }

  function bodyOf(item) {
    if (!made.has(item)) {
      const cells = columns.map((column) => {
        const kind = [column.numeric && "num", column.narrow && "narrow", column.name].filter(Boolean).join(" ");
        return element(column.head ? "th" : "td",
          { scope: column.head ? "row" : null, class: kind || null }, column.cell(item));
      });
      const body = element("tbody", {}, element("tr", {}, cells));
      row?.(item, body);
      made.set(item, body);
    }
    return made.get(item);
  }

  function fill() {
    const bodies = order.slice(0, shown).map(bodyOf);
    const kept = new Set(bodies);
    for (const body of [...table.tBodies]) if (!kept.has(body)) body.remove();
    table.append(...bodies);
    rest.hidden = order.length <= shown;
    rest.replaceChildren(button(`Show all ${order.length.toLocaleString("en")} ${more}`, () => {
      const next = order[shown];
      shown = Infinity;
      fill();
      made.get(next)?.querySelector("th, td")?.scrollIntoView({ block: "nearest" });
    }));
  }

  function sort(column, direction) {
    up = direction ?? (by === column ? !up : Boolean(column.up ?? !column.numeric));
    by = column;
    columns.forEach((other, i) => {
      if (other === column) heads[i].setAttribute("aria-sort", up ? "ascending" : "descending");
      else heads[i].removeAttribute("aria-sort");
    });
    const keys = new Map(items.map((item) => [item, column.key(item)]));
    const compare = column.numeric ? (a, b) => a - b : (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });
    // A stable sort of the first order: equals stay in it, in whichever direction.
    order = [...items].sort((a, b) => (up ? 1 : -1) * compare(keys.get(a), keys.get(b)));
    fill();
    if (direction === undefined) say(`Sorted by ${column.title}, ${up ? "ascending" : "descending"}`);
  }

  const first = columns.find((column) => column.title === sorted);
  if (first) sort(first, first.up ?? !first.numeric);
  else fill();
  return element("div", { class: "data" }, scroll, rest);
}
