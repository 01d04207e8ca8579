
"use strict";
// Search over the logs of the page: counts, a list of hits, and a way to each. Nothing else here needs a script.
(() => {
  const LISTED = 200; // hits that are listed; all are counted
  const NAMED = 10; // logs whose hits are told one by one
  const CONTEXT = 80; // characters before and after a hit
  const field = document.getElementById("query");
  const told = document.getElementById("told");
  const list = document.getElementById("hits");
  if (!field) { return; }
  const texts = [...document.querySelectorAll("pre[data-first]")];
  document.getElementById("search").hidden = false;

  // A closed fold is opened on the way to what is in it.
  const unfold = (element) => {
    for (let fold = element.closest("details"); fold; fold = fold.parentElement.closest("details")) { fold.open = true; }
  };

  const place = (pre, start, end) => {
    const range = document.createRange();
    const walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
    let at = 0;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const next = at + node.data.length;
      if (start >= at && start < next) { range.setStart(node, start - at); }
      if (end > at && end <= next) { range.setEnd(node, end - at); break; }
      at = next;
    }
    return range;
  };

  const go = (pre, start, end) => {
    unfold(pre);
    const range = place(pre, start, end);
    if (window.CSS && CSS.highlights) { CSS.highlights.set("hit", new Highlight(range)); }
    else { const chosen = getSelection(); chosen.removeAllRanges(); chosen.addRange(range); }
    const box = pre.parentElement;
    box.scrollIntoView({ block: "center" });
    const hit = range.getBoundingClientRect(), frame = box.getBoundingClientRect();
    box.scrollTop += hit.top - frame.top - frame.height / 2;
    if (hit.right > frame.right || hit.left < frame.left + 80) { box.scrollLeft += hit.left - frame.left - frame.width / 3; }
    box.focus({ preventScroll: true });
  };

  const entry = (pre, line, text, hit) => {
    const item = document.createElement("li"), button = document.createElement("button"), code = document.createElement("code");
    const from = Math.max(text.lastIndexOf("\n", hit.index - 1) + 1, hit.index - CONTEXT);
    const end = hit.index + hit[0].length;
    const newline = text.indexOf("\n", end);
    const marked = document.createElement("mark");
    marked.textContent = hit[0];
    code.append(text.slice(from, hit.index), marked, text.slice(end, Math.min(newline < 0 ? text.length : newline, end + CONTEXT)));
    button.type = "button";
    button.append(`${pre.dataset.log}, line ${line}`, code);
    button.addEventListener("click", () => go(pre, hit.index, end));
    item.append(button);
    return item;
  };

  const search = () => {
    const wanted = field.value;
    list.replaceChildren();
    if (window.CSS && CSS.highlights) { CSS.highlights.delete("hit"); }
    if (wanted.length < 2) { told.textContent = wanted ? "Two letters at least." : ""; return; }
    const pattern = new RegExp(wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi");
    const found = new DocumentFragment();
    const counts = new Map();
    let count = 0;
    for (const pre of texts) {
      const text = pre.textContent;
      let line = Number(pre.dataset.first), at = 0;
      for (const hit of text.matchAll(pattern)) {
        count += 1;
        counts.set(pre.dataset.log, (counts.get(pre.dataset.log) || 0) + 1);
        if (count > LISTED) { continue; }
        for (let newline = text.indexOf("\n", at); newline >= 0 && newline < hit.index; newline = text.indexOf("\n", newline + 1)) {
          line += 1;
          at = newline + 1;
        }
        found.append(entry(pre, line, text, hit));
      }
    }
    list.append(found);
    const named = [...counts].slice(0, NAMED).map(([name, hits]) => `${name}: ${hits}`);
    const each = named.join(", ") + (counts.size > NAMED ? ", and others" : "");
    const more = count > LISTED ? `; the first ${LISTED} are listed` : "";
    told.textContent = count ? `${count} ${count === 1 ? "hit" : "hits"} in ${counts.size} of ${new Set(texts.map((pre) => pre.dataset.log)).size} logs (${each})${more}` : "No hit.";
  };

  let waiting = 0;
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 200); });
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    search();
    const first = list.querySelector("button");
    if (first) { first.focus(); }
  });
  const follow = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) { unfold(target); if (target.tagName === "DETAILS") { target.open = true; } target.scrollIntoView({ block: "center" }); }
  };
  addEventListener("hashchange", follow);
  follow();
})();
