"""The page's style sheet: light and dark as the reader has it, nothing loaded."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --ok: #1a7f37; --bad: #cf222e; --odd: #9a6700;
  --a: #2f6fde; --b: #d9822b; --c: #7a5bc7; --d: #1a9a8a; --off: #8888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1rem; margin-bottom: .2rem; }
article + article { margin-top: 5rem; } nav a { margin-right: 1rem; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; } th, td { padding: .15rem .7rem .15rem 0;
  vertical-align: top; unicode-bidi: isolate; overflow-wrap: anywhere; }
tbody tr, .facts tr { border-top: 1px solid var(--line); }
.figures :is(td, th):is(:nth-child(2), :nth-child(3)) { text-align: right; white-space: nowrap; }
.words { display: block; overflow-x: auto; } .words td, .words th { white-space: nowrap; }
.words td.changed { background: #d9822b55; font-weight: 600; }
.verdict { font-size: 1.1rem; font-weight: 600; padding: .5rem .8rem; border-left: 5px solid; }
.verdict.pass, .badge.pass { color: var(--ok); } .verdict.fail, .badge.fail { color: var(--bad); }
.verdict:is(.not_run, .unjudged), .badge:is(.not_run, .unjudged) { color: var(--odd); }
.badge { font-weight: 600; }
details { border-top: 1px solid var(--line); padding: .4rem 0; } summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .85rem; } .wide { overflow-x: auto; }
svg { max-width: none; display: block; } svg text { font: 12px system-ui, sans-serif;
  fill: currentColor; }
.grid { stroke: var(--line); } .gate { stroke: var(--bad); stroke-dasharray: 5 4; }
.line { fill: none; stroke: var(--off); } .broken { stroke: var(--bad); stroke-width: 2; }
.tap, .own { fill: var(--a); } .tap.lpa { fill: var(--b); } .tap.attention { fill: var(--c); }
.tap.head { fill: var(--d); } .other, .elsewhere { fill: var(--off); } .engine { fill: var(--d); }
rect { stroke: Canvas; } .key::before { content: "■ "; color: var(--a); }
.key { margin-right: 1rem; } .key.lpa::before { color: var(--b); }
.key.attention::before { color: var(--c); } .key.head::before, .key.engine::before {
  color: var(--d); } .key.elsewhere::before { color: var(--off); }
""".strip()
