"""What does the page look like, and what does its one script do?

The page is whole without the script: it only adds a filter over the pictures. Both are constants,
never formatted with data.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --surface: #ffffff; --well: #eceff3; --line: #d9dee5;
  --text: #1a1f26; --muted: #56606c; --accent: #0a62a6; --faint: #8fb6d6;
  --good: #1a7342; --good-well: #e0f3e8; --warn: #8a4b00; --warn-well: #fdf0d9;
  --bad: #b3261e; --bad-well: #fbe6e4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1318; --surface: #181d24; --well: #222933; --line: #2f3844;
    --text: #e7ebf0; --muted: #a3afbd; --accent: #74b9f0; --faint: #3c6485;
    --good: #77d6a2; --good-well: #163626; --warn: #f2bd6b; --warn-well: #3a2a10;
    --bad: #ff9d94; --bad-well: #43201d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main, header > div, footer { max-width: 82rem; margin: 0 auto; padding: 0 1.25rem; }
header { background: var(--surface); border-bottom: 1px solid var(--line); padding: 1.5rem 0; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .15rem 0; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .25rem; letter-spacing: -.005em; }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 0; }
.brand { font-size: .8rem; font-weight: 600; color: var(--accent); }
.uri { overflow-wrap: anywhere; unicode-bidi: isolate; }
.uri, code { font-size: .82em;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
.muted { color: var(--muted); }
.small { font-size: .84rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.title { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .8rem; }
.state { font-size: .8rem; font-weight: 600; padding: .1rem .65rem; border-radius: 1rem; }
.state.finished { color: var(--good); background: var(--good-well); }
.state.progress { color: var(--warn); background: var(--warn-well); }
.state.unknown { color: var(--muted); background: var(--well); }
.notice { margin-top: 1rem; padding: .7rem .95rem; border-radius: .5rem; font-size: .92rem;
  color: var(--warn); background: var(--warn-well); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }
.tile { background: var(--page); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem .95rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tile dt { color: var(--muted); font-size: .84rem; }
.tile dd { margin: 0; }
.tile .value { font-size: 1.55rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile.bad .value { color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: .15rem 2rem; margin: 1.1rem 0 0; font-size: .9rem; }
.facts div { display: flex; gap: .6rem; min-width: 0; }
.facts dt { color: var(--muted); flex: 0 0 7.5rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.1rem 1.25rem; margin: 1.25rem 0; }
section > .muted { margin-bottom: .8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1.25rem; margin: 1.25rem 0; align-items: start; }
.charts section { margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; font-weight: 400; padding: .28rem .5rem .28rem 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-size: .8rem; border-bottom: 1px solid var(--line); }
thead th.number { text-align: right; }
.bars thead td { border-bottom: 1px solid var(--line); }
.bars th[scope=row] { width: 42%; overflow-wrap: anywhere; }
.bars .number { width: 1%; }
.bar { height: .8rem; margin-top: .35rem; border-radius: .2rem; background: var(--well); }
.bar rect { fill: var(--accent); }
.histogram { height: 11rem; border-bottom: 1px solid var(--muted); }
.histogram .above { fill: var(--accent); }
.histogram .below { fill: var(--faint); }
.histogram rect:hover { fill: var(--text); }
.axis { display: flex; justify-content: space-between; margin-top: .2rem; }
.axis { color: var(--muted); font-size: .8rem; font-variant-numeric: tabular-nums; }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--accent); font-size: .9rem; padding: .2rem 0; }
svg { display: block; width: 100%; }
svg.swatch { display: inline-block; flex: none; width: .75rem; height: .75rem; overflow: hidden;
  margin-right: .5rem; vertical-align: -.08rem; border-radius: .2rem;
  border: 1px solid var(--muted); }
.scroll { overflow: auto; }
.messages table { table-layout: fixed; min-width: 20rem; }
.messages th:first-child { width: 45%; }
.messages td { overflow-wrap: anywhere; }
.reason { color: var(--bad); font-weight: 600; white-space: nowrap; }
.config th { color: var(--muted); width: 14rem; overflow-wrap: anywhere; }
.config td { overflow-wrap: anywhere; }
.find { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center;
  margin: .7rem 0 1rem; }
.find[hidden] { display: none; }
.find input { flex: 1 1 14rem; max-width: 26rem; font: inherit; color: inherit;
  background: var(--page); border: 1px solid var(--muted); border-radius: .45rem;
  padding: .4rem .7rem; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 1rem; list-style: none; margin: 0; padding: 0; }
.card { border: 1px solid var(--line); border-radius: .6rem; overflow: hidden;
  background: var(--page); display: flex; flex-direction: column; min-width: 0; }
.card[hidden] { display: none; }
.picture { position: relative; aspect-ratio: 4 / 3; background: var(--well); display: flex;
  align-items: center; justify-content: center; }
.picture img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.picture p { padding: 1rem; text-align: center; font-size: .9rem; overflow-wrap: anywhere;
  max-height: 100%; overflow: auto; }
.body { padding: .75rem .9rem .9rem; display: flex; flex-direction: column; gap: .55rem; }
.body .scroll { max-height: 11.5rem; }
.body table { font-size: .84rem; }
.body th { overflow-wrap: anywhere; }
.body .uri { font-size: .74rem; }
.classes { display: grid; grid-template-columns: 1fr auto; gap: 0 .6rem; margin: 0; padding: 0;
  list-style: none; font-size: .84rem; }
.classes li { display: contents; }
footer { padding-bottom: 2rem; color: var(--muted); font-size: .84rem; }
@media (max-width: 30rem) {
  main, header > div, footer { padding: 0 .8rem; }
  header { padding: 1rem 0; }
  section { padding: .9rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: .5rem; }
  .tile { padding: .5rem .7rem; }
  .facts dt { flex-basis: 6rem; }
}
@media print {
  body { background: #fff; }
  .find { display: none; }
  .card, .tile { break-inside: avoid; }
  .scroll { max-height: none !important; overflow: visible; }
}
"""

SCRIPT = """
"use strict";
const find = document.querySelector(".find");
if (find) {
  const cards = [...document.querySelectorAll(".card")];
  const input = find.querySelector("input");
  const count = find.querySelector("output");
  const show = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const card of cards) {
      const text = card.dataset.text;
      card.hidden = !words.every((word) => text.includes(word));
      shown += card.hidden ? 0 : 1;
    }
    count.textContent = shown + " of " + cards.length;
  };
  find.hidden = false;
  input.addEventListener("input", show);
  show();
}
"""
