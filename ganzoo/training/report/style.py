"""How `report.html` looks: its style sheet, its script and its smallest parts. `report.py` is what it says."""

from __future__ import annotations

import html
from typing import Any

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2430; --muted: #667085; --line: #e4e7ec; --accent: #2f6feb;
  --warn: #b54708; --warn-back: #fff6ea; --good: #067647; --good-back: #e9f9f0;
  --series-0: #2f6feb; --series-1: #e8590c; --series-2: #12946b; --series-3: #8250df;
  --series-4: #d6336c; --series-5: #9a6a00; --series-6: #0b8fa8; --series-7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f141a; --card: #171d26; --ink: #e6eaf0; --muted: #98a2b3; --line: #2a3340; --accent: #6ea0ff;
    --warn: #fdb263; --warn-back: #2c2115; --good: #5fd39a; --good-back: #12281e;
    --series-0: #6ea0ff; --series-1: #ff9350; --series-2: #4cc79a; --series-3: #b692ff;
    --series-4: #ff7eab; --series-5: #e0b34a; --series-6: #4fc3d9; --series-7: #a3aab8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }
header { margin-bottom: 1.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .8rem; }
h3 { font-size: .95rem; margin: 0; }
p { margin: .3rem 0; }
a { color: var(--accent); }
.quiet { color: var(--muted); font-size: .875rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.1rem;
  min-width: 0; }
.card + .card { margin-top: .75rem; }
.pill { display: inline-block; border-radius: 999px; padding: .1rem .7rem; font-size: .85rem; font-weight: 600;
  margin-right: .4rem; color: var(--muted); border: 1px solid var(--line); text-decoration: none; }
.pill.good { color: var(--good); background: var(--good-back); border-color: transparent; }
.pill.warn { color: var(--warn); background: var(--warn-back); border-color: transparent; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .7rem 1rem; }
.tiles dt { color: var(--muted); font-size: .8rem; }
.tiles dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; line-height: 1.35; }
.tiles small { display: block; font-weight: 400; font-size: .8rem; color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure, .charts .card { margin: 0; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .25rem 0 0; padding: 0; list-style: none;
  font-size: .85rem; }
.legend i { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .35rem; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.player { display: grid; grid-template-columns: minmax(0, 1fr) 9rem; gap: 1.2rem; }
.stage { display: flex; justify-content: center; align-items: flex-start; }
.sheet { flex: 1; min-width: 0; text-align: center; }
.stage img { width: 100%; max-width: 38rem; height: auto; border-radius: 8px; }
img.small { image-rendering: pixelated; }
[hidden] { display: none !important; }
.controls { display: flex; align-items: center; gap: .8rem; margin: .8rem auto 0; max-width: 38rem; }
.controls input { flex: 1; min-width: 4rem; accent-color: var(--accent); }
.controls output { min-width: 7.5rem; text-align: right; font-variant-numeric: tabular-nums; font-size: .9rem; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: 8px;
  padding: .2rem .8rem; cursor: pointer; }
button:hover, button:focus-visible { border-color: var(--accent); }
.ends { display: flex; flex-direction: column; gap: .8rem; }
.ends button { padding: .4rem; text-align: left; font-size: .8rem; color: var(--muted); }
.ends img { display: block; width: 100%; border-radius: 5px; margin-bottom: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--muted); font-weight: 500; font-size: .8rem; }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
td.value { font-weight: 600; }
td.long { white-space: normal; min-width: 7rem; }
.warnings { list-style: none; margin: 0; padding: 0; }
.warnings li { background: var(--warn-back); border-left: 4px solid var(--warn); border-radius: 8px;
  padding: .6rem .9rem; margin-bottom: .6rem; }
.warnings b { color: var(--warn); }
pre { margin: 0; overflow-x: auto; font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
ol.sentences { margin: 0; padding-left: 2.6rem; max-height: 26rem; overflow-y: auto; text-align: left; }
ol.sentences li { padding: .12rem 0; overflow-wrap: anywhere; }
ol.sentences li::marker { color: var(--muted); font-size: .8rem; }
h3.compared { margin-top: 1.4rem; }
table.sentences { table-layout: fixed; min-width: 36rem; }
table.sentences td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; line-height: 1.4; }
.audio { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .8rem; }
audio { width: 100%; display: block; margin-top: .3rem; }
.sheet audio { max-width: 38rem; margin: .6rem auto 0; }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--muted); font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 0 2rem;
  margin: 0; }
.facts div { display: flex; gap: 1rem; justify-content: space-between; border-bottom: 1px solid var(--line);
  padding: .3rem 0; font-size: .9rem; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding-top: 1.2rem; }
  h1 { font-size: 1.5rem; }
  .player { grid-template-columns: minmax(0, 1fr); }
  .ends { flex-direction: row; }
  .ends button { flex: 1; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media print { button, .controls { display: none; } .card { break-inside: avoid; } }
"""

# Shows one sheet at a time: moved by the slider (or its arrow keys), the play button, and the first and last thumbnail.
SCRIPT = """
for (const player of document.querySelectorAll(".player")) {
  const sheets = [...player.querySelectorAll(".sheet")];
  const slider = player.querySelector("input"), step = player.querySelector("output");
  const play = player.querySelector(".play");
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "\\u25b6 Play"; };
  const show = (index) => {
    sheets.forEach((sheet, i) => {
      sheet.hidden = i !== index;
      if (sheet.hidden) sheet.querySelector("audio")?.pause();
    });
    slider.value = index;
    step.textContent = sheets[index].dataset.step;
  };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  for (const end of player.querySelectorAll(".ends button")) {
    end.addEventListener("click", () => { stop(); show(Number(end.dataset.index)); });
  }
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) === sheets.length - 1) show(0);
    play.textContent = "\\u275a\\u275a Pause";
    timer = setInterval(() => {
      const next = Number(slider.value) + 1;
      if (next >= sheets.length) stop(); else show(next);
    }, 450);
  });
}
"""


def escape(value: Any) -> str:
    """Makes text safe to stand in the page; lone surrogates, which no file can hold, become question marks."""
    return html.escape(str(value).encode("utf-8", errors="replace").decode())


def section(title: str, body: str, name: str = "") -> str:
    """A titled part of the page; `body` is HTML."""
    anchor = f' id="{name}"' if name else ""
    return f"<section{anchor}>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def step_name(step: float) -> str:
    """A step in words: "step 1,200"."""
    return f"step {step:,.0f}"
