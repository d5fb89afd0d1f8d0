// Draw an agent's steps. Text only ever goes in as text.

const LABELS = { reasoning: "thinks", action: "does", observation: "sees", result: "finds" };

export function stepItem({ type, content }) {
  const item = make("li", { className: `step ${type}` });
  item.append(make("span", { className: "kind", textContent: LABELS[type] ?? type }));
  const body = make("div", { className: "body" });
  body.append(...(type === "action" ? action(content) : told(content)));
  item.append(body);
  return item;
}

export function answerArticle(content) {
  const article = make("article", { className: content.failed ? "answer failed" : "answer" });
  article.append(make("p", { className: "lead", textContent: content.answer }));
  if (content.signature) article.append(code(content.signature));
  if (content.excerpt) article.append(excerpt(content.excerpt));
  article.append(...section("Lines that mention your words", content.mentions));
  if (content.leads_to) article.append(...section("Leads on to", [content.leads_to]));
  article.append(...section("Used in", content.references));
  article.append(...section("Named most", content.places));
  return article;
}

function action({ tool, ...rest }) {
  if (tool === "grep") return [code(`grep "${rest.pattern}" ${rest.files}`)];
  if (tool === "open") return [code(`open ${rest.path}, lines ${rest.lines.join(" to ")}`)];
  return [code(`${tool} ${Object.values(rest).flat().join(" ")}`)];
}

function told(content) {
  if (typeof content === "string") return [make("p", { textContent: content })];
  const parts = [];
  if (content.where) parts.push(make("p", { className: "where", textContent: content.where }));
  if (content.text) parts.push(make("p", { textContent: content.text }));
  if (content.items?.length) parts.push(places(content.items, content.more));
  if (content.excerpt) parts.push(excerpt(content.excerpt));
  return parts;
}

function section(title, items) {
  if (!items?.length) return [];
  return [make("h3", { className: "label", textContent: title }), places(items)];
}

function places(items, more = 0) {
  const list = make("ul", { className: "places" });
  for (const { where, text } of items) {
    const item = make("li");
    item.append(make("span", { className: "where", textContent: where }), make("code", { textContent: text }));
    list.append(item);
  }
  if (more) list.append(make("li", { className: "more", textContent: `and ${more} more` }));
  return list;
}

function excerpt({ path, first, lines, more }) {
  const box = make("figure", { className: "excerpt" });
  box.append(make("figcaption", { className: "where", textContent: `${path}:${first}` }));
  const list = make("ol");
  lines.forEach((line, index) => {
    const item = make("li", { value: first + index });
    item.append(make("code", { textContent: line }));
    list.append(item);
  });
  // Long code scrolls sideways, so a keyboard must reach it.
  list.tabIndex = 0;
  box.append(list);
  if (more) box.append(make("p", { className: "small", textContent: `${more} more lines` }));
  return box;
}

function code(text) {
  const box = make("pre", { className: "command" });
  box.append(make("code", { textContent: text }));
  return box;
}

function make(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}
