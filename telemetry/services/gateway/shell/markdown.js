// Render a model's Markdown as DOM nodes. Its content only becomes text, so it can't run.
// A partial answer is rendered, too: each new part renders the whole again.

import { element, honestLink } from "./dom.js";

const FENCE = /^\s*```+\s*([\w+-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const QUOTE = /^\s*>\s?/;
const MAX_DEPTH = 20; // of nested quotes and lists; deeper ones are shown as plain text
const INLINE = new RegExp([
  "(`+)(.+?)\\1(?!`)", // 1, 2: code
  "\\*\\*(.+?)\\*\\*", // 3: strong
  "(?<![*\\w])\\*(?![\\s*])([^*\\n]+?)\\*(?!\\w)", // 4: emphasis
  "(?<!\\w)_(?!\\s)([^_\\n]+?)_(?!\\w)", // 5
  "\\[([^\\]\\n]{1,500})\\]\\((https?://[^\\s)]+)\\)", // 6, 7: link
  "(https?://[^\\s<>\"'`)\\]]+[^\\s<>\"'`)\\].,;:!?])", // 8: address
].join("|"), "gs");

export function markdown(text) {
  return blocks(text.split("\n"));
}

function blocks(lines, depth = 0) {
  const made = document.createDocumentFragment();
  if (depth > MAX_DEPTH) {
    made.append(element("p", "", lines.join("\n")));
    return made;
  }
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (!line.trim()) {
      at += 1;
    } else if ((match = line.match(FENCE))) {
      let end = at + 1;
      while (end < lines.length && !/^\s*```+\s*$/.test(lines[end])) end += 1;
      const pre = element("pre", "", element("code", "", lines.slice(at + 1, end).join("\n")));
      if (match[1]) pre.dataset.language = match[1];
      pre.tabIndex = 0; // so that it can be scrolled by keyboard
      made.append(pre);
      at = end + 1;
    } else if ((match = line.match(HEADING))) {
      made.append(inline(element(`h${Math.min(match[1].length + 2, 6)}`), match[2]));
      at += 1;
    } else if (RULE.test(line)) {
      made.append(element("hr"));
      at += 1;
    } else if (QUOTE.test(line)) {
      let end = at;
      while (end < lines.length && QUOTE.test(lines[end])) end += 1;
      made.append(element("blockquote", "", blocks(lines.slice(at, end).map((l) => l.replace(QUOTE, "")), depth + 1)));
      at = end;
    } else if (line.includes("|") && TABLE.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) {
      let end = at + 2;
      while (end < lines.length && lines[end].includes("|")) end += 1;
      made.append(table(lines[at], lines.slice(at + 2, end)));
      at = end;
    } else if (ITEM.test(line)) {
      let end = at + 1;
      while (end < lines.length && belongs(lines, end)) end += 1;
      made.append(list(lines.slice(at, end), depth + 1));
      at = end;
    } else {
      let end = at + 1;
      while (end < lines.length && !starts(lines, end)) end += 1;
      made.append(inline(element("p"), lines.slice(at, end).join("\n")));
      at = end;
    }
  }
  return made;
}

function starts(lines, at) {
  const line = lines[at];
  return !line.trim() || [FENCE, HEADING, RULE, ITEM, QUOTE].some((kind) => kind.test(line)) ||
    (line.includes("|") && TABLE.test(lines[at + 1] ?? ""));
}

// Tell whether a line continues a list: an item, an indented line, or an empty line before one.
function belongs(lines, at) {
  const line = lines[at];
  if (!line.trim()) return at + 1 < lines.length && (ITEM.test(lines[at + 1]) || /^\s{2,}\S/.test(lines[at + 1]));
  return ITEM.test(line) || /^\s/.test(line) || (!starts(lines, at) && !!lines[at - 1].trim());
}

function list(lines, depth) {
  const [, indent, mark] = lines[0].match(ITEM);
  const ordered = /\d/.test(mark);
  const made = element(ordered ? "ol" : "ul");
  if (ordered) made.start = parseInt(mark, 10);
  let body = [];
  const close = () => {
    if (!body.length) return;
    const nodes = blocks(body, depth);
    const item = element("li");
    // A single paragraph needs no space around it.
    if (nodes.firstChild?.nodeName === "P") item.append(...nodes.firstChild.childNodes, ...[...nodes.childNodes].slice(1));
    else item.append(nodes);
    made.append(item);
  };
  for (const line of lines) {
    const match = line.match(ITEM);
    if (match && match[1].length <= indent.length + 1) {
      close();
      body = [match[3]];
    } else {
      body.push(line.replace(/^ {1,4}|^\t/, ""));
    }
  }
  close();
  return made;
}

function table(head, rows) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => element("tr", "", ...cells(line).map((cell) => inline(element(tag), cell)));
  const made = element("table", "", element("thead", "", row(head, "th")));
  made.append(element("tbody", "", ...rows.map((line) => row(line, "td"))));
  return element("div", "wide", made);
}

function inline(target, text) {
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    target.append(text.slice(at, match.index));
    const [whole, , code, strong, star, underscore, label, address, bare] = match;
    if (code !== undefined) target.append(element("code", "", code));
    else if (strong !== undefined) target.append(inline(element("strong"), strong));
    else if (star ?? underscore) target.append(inline(element("em"), star ?? underscore));
    else target.append(...honestLink(address ?? bare, label ?? bare));
    at = match.index + whole.length;
  }
  target.append(text.slice(at));
  return target;
}
