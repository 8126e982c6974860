# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of the maps of co-scheduling: gains as colours, and gain against what the others pay."""

STYLE = """<style>
text { font-family: 'DejaVu Sans', Verdana, Helvetica, sans-serif; font-size: 12px; fill: #333; }
.title { font-size: 17px; font-weight: bold; fill: #111; } .head { font-size: 13px; font-weight: bold; }
.quiet { fill: #777; } .middle { text-anchor: middle; } .end { text-anchor: end; }
.gain { font-size: 13px; font-weight: bold; text-anchor: middle; } .loss { font-size: 10px; text-anchor: middle; }
</style>
"""
CELL_W, CELL_H, LEFT, TOP = 46, 38, 110, 92
PANELS = (("co-credit", "co-credit: as in the paper"), ("pooled", "pooled: nothing is unaccounted"))
COLOURS = {"co-credit": "#e07a00", "pooled": "#1769aa", "pooled-mute": "#7b3fa0"}


def document(width, height, parts):
    """A whole SVG."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n{STYLE}'
            f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def text(x, y, words, kind="", rotate=None):
    """Words at a place."""
    turn = f' transform="rotate({rotate} {x:.1f} {y:.1f})"' if rotate else ""
    words = str(words).replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{turn}>{words}</text>'


def shade(gain):
    """From white (nothing) to green (half of the time saved), or red (time lost)."""
    part = max(-1.0, min(1.0, gain / 50))
    end = (27, 120, 55) if part >= 0 else (178, 24, 43)
    return "#" + "".join(f"{round(255 + (c - 255) * abs(part)):02x}" for c in end)


def cell(x, y, record):
    """One cell: the gain, below it what the others lose; a bold frame if chosen, a corner if shares are off."""
    dark = ' style="fill: #fff"' if abs(record["gain"]) > 32 else ""
    parts = [f'<rect x="{x}" y="{y}" width="{CELL_W - 2}" height="{CELL_H - 2}" fill="{shade(record["gain"])}" '
             f'stroke="{"#111" if record["chosen"] else "#ddd"}" stroke-width="{2.4 if record["chosen"] else 0.6}"/>',
             f'<text x="{x + CELL_W / 2 - 1}" y="{y + 17}" class="gain"{dark}>{round(record["gain"])}</text>',
             f'<text x="{x + CELL_W / 2 - 1}" y="{y + 30}" class="loss"{dark}>{record["others_loss"]:+.1f}</text>']
    if record["worst_share_error"] > 1:
        parts.append(f'<path d="M{x + CELL_W - 12},{y} h10 v10 z" fill="#b2182b"/>')
    return parts


def panel(records, title, x_name, xs, ys, left):
    """One algorithm's cells with their axis."""
    parts = [text(left, TOP - 12, title, "head")]
    for row, y in enumerate(reversed(ys)):
        for column, x in enumerate(xs):
            found = next(r for r in records if r["x"] == x and r["y"] == y)
            parts += cell(left + column * CELL_W, TOP + row * CELL_H, found)
    bottom = TOP + len(ys) * CELL_H
    parts += [text(left + (i + 0.5) * CELL_W - 1, bottom + 16, f"{x:g}", "quiet middle") for i, x in enumerate(xs)]
    parts.append(text(left + len(xs) * CELL_W / 2, bottom + 36, x_name, "middle"))
    return parts


def heat(records, x_name, y_name, xs, ys, path):
    """A map, side by side for the paper's algorithm and for ours."""
    wide, bottom = len(xs) * CELL_W, TOP + len(ys) * CELL_H
    parts = [text(LEFT, 30, "Less time for each request, in %, against plain credit", "title"),
             text(LEFT, 50, "small: more time that the others' work takes, in %; 4 CPUs, 8 seeds", "quiet")]
    for i, (algorithm, title) in enumerate(PANELS):
        parts += panel([r for r in records if r["algorithm"] == algorithm], title, x_name, xs, ys, LEFT + i * (wide + 50))
    parts += [text(LEFT - 12, TOP + (i + 0.5) * CELL_H + 4, f"{y:g}", "quiet end") for i, y in enumerate(reversed(ys))]
    parts.append(text(34, TOP + len(ys) * CELL_H / 2, y_name, "middle", -90))
    key = bottom + 64
    parts += [f'<rect x="{LEFT}" y="{key - 12}" width="16" height="14" fill="none" stroke="#111" stroke-width="2.4"/>',
              text(LEFT + 24, key, "chosen on plain credit alone: 34.87 % ought to be had at no more than 7.75 %", "quiet"),
              f'<path d="M{LEFT + 540},{key - 12} h12 v12 z" fill="#b2182b"/>',
              text(LEFT + 560, key, "a share is off by more than 1 %", "quiet")]
    width = LEFT + 2 * wide + 80
    path.write_text(document(max(width, 900), key + 24, parts))


def frontier(records, gain, loss, path):
    """Every cell of every map: gain against the others' loss; filled where every share is within 1 %."""
    width, height, left, bottom, top = 1000, 620, 80, 540, 80
    most_x = 15

    def at(x, y):
        return left + (width - left - 40) * x / most_x, bottom - (bottom - top) * (y + 5) / 75

    parts = [text(left, 32, "What a group gains, and what the others pay", "title"),
             text(left, 52, "each point: one load of the maps, 8 seeds, against plain credit", "quiet")]
    for x in range(0, most_x + 1, 3):
        px, py = at(x, -5)
        parts += [f'<path d="M{px:.1f},{top} V{bottom}" stroke="#eee"/>', text(px, py + 18, f"{x}", "quiet middle")]
    for y in range(0, 71, 10):
        px, py = at(0, y)
        parts += [f'<path d="M{px:.1f},{py:.1f} H{width - 40}" stroke="#eee"/>', text(px - 10, py + 4, f"{y}", "quiet end")]
    px, py = at(loss, gain)
    parts += [f'<path d="M{left},{py:.1f} H{px:.1f} V{top}" stroke="#c8102e" stroke-width="1.4" stroke-dasharray="5 4" fill="none"/>',
              text(left + 8, py - 7, "the paper: 34.87 % less at 7.75 % more, or better", "")]
    for r in records:
        if r["algorithm"] not in ("co-credit", "pooled") or r["others_loss"] > most_x:
            continue
        px, py = at(max(0, r["others_loss"]), r["gain"])
        colour = COLOURS[r["algorithm"]]
        fill = colour if r["worst_share_error"] <= 1 else "#fff"
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{fill}" fill-opacity="0.8" stroke="{colour}" stroke-width="1.4"/>')
    parts += [text((left + width - 40) / 2, bottom + 40, "more time that the others' work takes, %", "middle"),
              text(28, (top + bottom) / 2, "less time for each request, %", "middle", -90)]
    for i, (colour, fill, words) in enumerate(((COLOURS["pooled"], COLOURS["pooled"], "pooled"),
                                               (COLOURS["co-credit"], COLOURS["co-credit"], "co-credit, shares within 1 %"),
                                               (COLOURS["co-credit"], "#fff", "co-credit, some share off by more"))):
        x = left + 20 + i * 260
        parts += [f'<circle cx="{x}" cy="{bottom + 62}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.4"/>',
                  text(x + 12, bottom + 66, words, "quiet")]
    path.write_text(document(width, height, parts))
