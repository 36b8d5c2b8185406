"""What people look at: the index's comparison table, an audit on one page, and a badge.

Every text is somebody's, so a template escapes it, nothing is fetched, and the page allows no script to run at all.

    table_svg(read_ratings(data, "ratings.csv")), audit_html(audit), badge_svg(audit)
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from souq.audit.index import DIMENSIONS, GROUPS, Ratings
from souq.records import spelled_out

if TYPE_CHECKING:
    from souq.audit.evidence import Audit

# Wong's colours (Nature Methods 2011), told apart without red and green; a sign stands in every cell besides.
COLOURS = {"open": "#009e73", "partial": "#f0e442", "closed": "#d55e00", "unknown": "#d8d8d8"}
SIGNS = {"open": "✔", "partial": "~", "closed": "✘", "unknown": "?"}
INK = {"open": "#fff", "partial": "#222", "closed": "#fff", "unknown": "#555"}

_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ height }}" viewBox="0 0 {{ width }} {{ height }}" font-family="sans-serif" font-size="11" role="img">
<title>Openness of {{ rows|length }} models, {{ rubric }}</title><rect width="100%" height="100%" fill="#fff"/>
{% for name, x in heads %}<text x="{{ x + 8 }}" y="88" transform="rotate(-60 {{ x + 8 }} 88)">{{ name }}</text>
{% endfor %}{% for y, name, score, cells in rows %}<text x="6" y="{{ y + 13 }}">{{ name }}</text>
{% for x, rating in cells %}<rect x="{{ x }}" y="{{ y }}" width="22" height="17" fill="{{ colours[rating] }}"><title>{{ rating }}</title></rect><text x="{{ x + 11 }}" y="{{ y + 13 }}" text-anchor="middle" fill="{{ inks[rating] }}">{{ signs[rating] }}</text>
{% endfor %}<text x="{{ width - 8 }}" y="{{ y + 13 }}" text-anchor="end">{{ score }}</text>
{% endfor %}<text x="6" y="{{ height - 8 }}" fill="#555">{{ rubric }}: open 1, partial 0.5, closed 0, unknown counts 0; the sum</text></svg>
"""
_BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="430" height="22" font-family="sans-serif" font-size="11" role="img">
<title>{{ told }}</title><rect width="62" height="22" fill="#444"/><rect x="62" width="368" height="22" fill="{{ colour }}"/>
<text x="8" y="15" fill="#fff">openness</text><text x="70" y="15" fill="{{ ink }}">{{ told }}</text></svg>
"""
_STYLE = """body { font: 15px/1.45 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; } td, th { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere; }
.open { background: #009e73; color: #fff; } .partial { background: #f0e442; } .closed { background: #d55e00; color: #fff; } .unknown { background: #d8d8d8; }
code { font-size: .8em; } .soft { color: #666; }"""
_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{{ hash }}'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Openness of {{ a.name }}</title><style>{{ style|safe }}</style></head><body>
<h1>Openness of {{ a.name }}</h1>
<p>At least <b>{{ a.lower }}</b> (verified), at most <b>{{ a.upper }}</b> (claimed) of 14. MOF class {{ classes[a.mof.best] }} (verified), {{ classes[a.mof_claimed.best] }} (claimed). Open Source AI Definition: {{ 'met' if a.osaid_met else 'not shown' }}.</p>
<p class=soft>{{ a.kind }}{% if a.commit %}, commit <code>{{ a.commit }}</code>{% endif %}, {{ a.date }}, rubrics {{ a.rubrics|join(', ') }}. Unknown counts as 0 and is never rated open.</p>
{% for title, cells in groups %}<h2>{{ title }}</h2><table><tr><th>what<th>claimed<th>verified<th>status<th>why, and with what<th>next</tr>
{% for c in cells %}<tr><td>{{ c.name }}<td class="{{ c.claimed }}">{{ c.claimed }}<td class="{{ c.verified }}">{{ c.verified }}<td>{{ c.status }}<td>{{ c.why }}{% for e in c.evidence %}<br><code>{{ e.path }} {{ e.digest[:19] }}</code> {{ e.note }}{% endfor %}<td>{{ c.todo }}</tr>
{% endfor %}</table>{% endfor %}
<h2>Open Source AI Definition 1.0</h2><table><tr><th>asked for<th>claimed<th>verified<th>why</tr>{% for o in a.osaid %}<tr><td>{{ o.name }}<td>{{ o.claimed }}<td>{{ o.verified }}<td>{{ o.why }}</tr>{% endfor %}</table>
{% if a.bazaar %}<h2>Cathedral or bazaar</h2><table><tr><th>what<th>n<th>value<th>how</tr>{% for m in a.bazaar %}<tr><td>{{ m.name }}<td>{{ m.n }}<td>{{ m.said }}<td>{{ m.how }}</tr>{% endfor %}</table>{% endif %}
</body></html>
"""


def table_svg(found: Ratings) -> str:
    """The comparison as the paper draws it: a model a row, a dimension a column, coloured."""
    left, top = 280, 96
    # a gap between availability, documentation and access
    shift = {name: 8 * group for group, names in enumerate(GROUPS.values()) for name in names}
    across = {name: left + 24 * i + shift[name] for i, name in enumerate(DIMENSIONS)}
    rows = [
        (
            top + 19 * i,
            one.model[:44],
            f"{one.score:g}",
            [(across[d], one.ratings.get(d, "unknown")) for d in DIMENSIONS],
        )
        for i, one in enumerate(found.rated)
    ]
    return _rendered(
        _SVG, rows=rows, heads=list(across.items()), rubric=found.rubric, width=left + 24 * 14 + 60, height=top + 19 * len(rows) + 28,
    )  # fmt: skip


def table_html(found: Ratings) -> str:
    """The same on a page of its own."""
    return f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Openness</title></head><body>{table_svg(found)}</body></html>\n'


def badge_svg(audit: Audit) -> str:
    """Bounds, with the rubric, the date and the commit they are of."""
    told = f"{audit.lower:g} to {audit.upper:g} of 14 · {audit.rubrics[0]} · {audit.date}"
    told += f" · {audit.commit[:10]}" if audit.commit else ""
    grade = "open" if audit.lower >= 10 else "partial" if audit.lower >= 5 else "closed"
    return _rendered(_BADGE, told=told, colour=COLOURS[grade], ink=INK[grade])


def audit_html(audit: Audit) -> str:
    """Everything an audit found, on one page that asks nobody for anything."""
    from souq.audit.mof import CLASSES

    hashed = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    groups = [("The European index's fourteen dimensions", audit.cells), ("The Model Openness Framework's seventeen components", audit.components)]  # fmt: skip
    return _rendered(_HTML, a=audit, groups=groups, classes=CLASSES, style=_STYLE, hash=hashed)


def _rendered(template: str, **told: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, finalize=_plain)
    return made.from_string(template).render(colours=COLOURS, signs=SIGNS, inks=INK, **told)


def _plain(value: Any) -> Any:
    """Characters that steer a terminal or turn writing around, as escapes; markup that is ours stays as it is."""
    return spelled_out(value) if type(value) is str else value
