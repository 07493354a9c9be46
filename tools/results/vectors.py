"""Draws docs/images/vectors.svg: 16 places for pairs of weights, as four levels each and as vectors."""

import math
import pathlib
import random

SIDE, GAP, REACH = 300, 40, 4.2


def laplace(source):
    """A value of the Laplace distribution of variance 1."""
    share = source.random() - 0.5
    return -math.copysign(math.log(1 - 2 * abs(share)), share) / math.sqrt(2)


def nearest(point, entries):
    return min(range(len(entries)), key=lambda i: math.dist(point, entries[i]))


def lloyd(points, entries, passes=60):
    for _ in range(passes):
        sums = [[0.0, 0.0, 0] for _ in entries]
        for point in points:
            own = sums[nearest(point, entries)]
            own[0] += point[0]
            own[1] += point[1]
            own[2] += 1
        entries = [(x / n, y / n) if n else entry for (x, y, n), entry in zip(sums, entries)]
    return entries


def sqnr(points, entries):
    error = sum(math.dist(point, entries[nearest(point, entries)]) ** 2 for point in points)
    return 10 * math.log10(sum(x * x + y * y for x, y in points) / error)


def panel(left, title, points, entries):
    def place(x, y):
        return left + SIDE * (0.5 + x / 2 / REACH), 40 + SIDE * (0.5 - y / 2 / REACH)

    marks = [f'<text x="{left}" y="28">{title}</text>',
             f'<rect x="{left}" y="40" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>']
    for x, y in points[:500]:
        if max(abs(x), abs(y)) < REACH:
            cx, cy = place(x, y)
            marks.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="1.2" fill="#8aa4c8"/>')
    for x, y in entries:
        cx, cy = place(x, y)
        marks.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="#c2410c"/>')
    return "\n".join(marks)


def main():
    source = random.Random(1)
    points = [(laplace(source), laplace(source)) for _ in range(20_000)]
    # Lloyd-Max levels of the Laplace distribution at 2 bits.
    levels = [-1.8340, -0.4198, 0.4198, 1.8340]
    grid = [(x, y) for x in levels for y in levels]
    vectors = lloyd(points, grid)
    width = 2 * SIDE + GAP + 20
    titles = [f"four levels each: {sqnr(points, grid):.1f} dB", f"16 vectors of two: {sqnr(points, vectors):.1f} dB"]
    panels = [panel(10 + i * (SIDE + GAP), title, points, entries)
              for i, (title, entries) in enumerate(zip(titles, [grid, vectors]))]
    picture = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {SIDE + 50}" font-family="sans-serif" '
               f'font-size="16">\n<title>Pairs of weights and 16 places for them</title>\n'
               f'<rect width="{width}" height="{SIDE + 50}" fill="#fff"/>\n' + "\n".join(panels) + "\n</svg>\n")
    (pathlib.Path(__file__).parents[2] / "docs/images/vectors.svg").write_text(picture)


if __name__ == "__main__":
    main()
