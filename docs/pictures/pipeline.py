"""Draw the picture of the README, once for light and once for dark pages.

    python docs/pictures/pipeline.py

The numbers are those of `make demo` (docs/measured/demo.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 1200, 400
SANS = "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


@dataclass(frozen=True)
class Theme:
    """Colors of one page: text, secondary text, lines, cards, and an accent for each format and for a pass."""

    text: str
    muted: str
    line: str
    card: str
    node: str
    formats: tuple[str, str, str]
    passed: str


@dataclass(frozen=True)
class File:
    """One phone file of the demo, with the worst SQNR of its 27 cases and the threshold of its precision, in dB."""

    format: str
    name: str
    detail: str
    runtime: str
    sqnr_db: float
    threshold_db: float


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#afb8c1", "#f6f8fa", "#ffffff", ("#0072b2", "#d55e00", "#cc79a7"), "#1a7f37"),
    "dark": Theme("#f0f6fc", "#9198a1", "#4a525c", "#161b22", "#0d1117", ("#56b4e9", "#e69f00", "#cc79a7"), "#3fb950"),
}
FILES = (
    File("Core ML", "mobilevit_xxs.mlpackage", "fp16, 1.94 MB", "coreml-reference", 48.9, 40),
    File("TFLite", "mobilevit_xxs.tflite", "fp32, 3.66 MB", "litert-cpu", 116.7, 90),
    File("ExecuTorch", "mobilevit_xxs.pte", "fp32, 3.67 MB", "executorch", 114.6, 90),
)
HEADINGS = (("checkpoint", 92), ("phone graph", 374), ("phone files", 672), ("verdicts", 1030))
FULL_SCALE_DB = 130


def draw(theme: Theme) -> str:
    """The SVG document."""

    def text(x: float, y: float, words: str, size: int = 14, color: str = theme.text, **more: str) -> str:
        attributes = {"font-family": SANS, "text-anchor": "middle"} | {k.replace("_", "-"): v for k, v in more.items()}
        rest = " ".join(f'{key}="{value}"' for key, value in attributes.items())
        return f'<text x="{x}" y="{y}" font-size="{size}" fill="{color}" {rest}>{words}</text>'

    def box(x: float, y: float, width: float, height: float, fill: str, line: str = theme.line, radius: int = 8) -> str:
        return (
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" stroke="{line}" '
            f'stroke-width="1.5"/>'
        )

    def arrow(path: str, color: str = theme.line) -> str:
        return f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2" marker-end="url(#tip)"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="One checkpoint '
        f'becomes a phone graph, then Core ML, TFLite and ExecuTorch files, each with a verdict against PyTorch">',
        f'<defs><marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{theme.muted}"/></marker></defs>',
    ]
    parts += [
        text(x, 34, words.upper(), 13, theme.muted, font_weight="600", letter_spacing="1.5") for words, x in HEADINGS
    ]

    # The checkpoint: sheets of paper, the releases that load as they are.
    parts += [box(24 - shift, 130 - shift, 148, 174, theme.card) for shift in (-12, -6)]
    releases = ("timm", "transformers", "ml-cvnets", "Microsoft Cream")
    parts += [
        box(24, 130, 148, 174, theme.node),
        text(98, 166, "model.pth", 15, font_family=MONO, font_weight="600"),
        *(text(98, 202 + 25 * row, name, 14, theme.muted) for row, name in enumerate(releases)),
        arrow("M192 217H260"),
        text(226, 205, "deploy", 13, theme.muted),
    ]

    # The phone graph: attention as matrix products, with its residual.
    nodes = {"conv": (374, 96), "q": (306, 150), "k": (370, 150), "v": (434, 150), "matmul": (332, 196)}
    nodes |= {"softmax": (332, 243), "matmul ": (374, 290), "add": (374, 336)}
    edges = (("conv", "q"), ("conv", "k"), ("conv", "v"), ("q", "matmul"), ("k", "matmul"), ("matmul", "softmax"))
    edges += (("softmax", "matmul "), ("v", "matmul "), ("matmul ", "add"))
    parts.append(box(266, 64, 216, 306, theme.card))
    for start, end in edges:
        (x1, y1), (x2, y2) = nodes[start], nodes[end]
        parts.append(
            f'<path d="M{x1} {y1 + 14}C{x1} {(y1 + y2) / 2} {x2} {(y1 + y2) / 2} {x2} {y2 - 14}" fill="none" '
            f'stroke="{theme.line}" stroke-width="1.8"/>'
        )
    residual = "M410 96C500 96 480 336 410 336"
    parts.append(f'<path d="{residual}" fill="none" stroke="{theme.line}" stroke-width="1.8" stroke-dasharray="5 4"/>')
    for name, (x, y) in nodes.items():
        width = 40 if len(name) == 1 else 72
        parts += [box(x - width / 2, y - 14, width, 28, theme.node, radius=14), text(x, y + 5, name.strip(), 13)]

    # Each file, the runtime that executes it, and its worst case next to the threshold.
    for row, (file, color) in enumerate(zip(FILES, theme.formats, strict=True)):
        y = 64 + 106 * row
        middle = y + 47
        parts += [
            arrow(f"M482 217C520 217 512 {middle} 552 {middle}"),
            box(556, y, 232, 94, theme.node),
            f'<rect x="556" y="{y + 10}" width="5" height="74" rx="2" fill="{color}"/>',
            text(578, y + 30, file.format, 16, color, text_anchor="start", font_weight="600"),
            text(578, y + 54, file.name, 13, text_anchor="start", font_family=MONO),
            text(578, y + 76, file.detail, 13, theme.muted, text_anchor="start"),
            arrow(f"M788 {middle}H858"),
            text(822, middle - 10, "run", 13, theme.muted),
            box(864, y, 328, 94, theme.card),
            f'<circle cx="892" cy="{y + 28}" r="11" fill="{theme.passed}"/>',
            f'<path d="M886.5 {y + 28}l4 4.5l7 -8" fill="none" stroke="{theme.node}" stroke-width="2.4"/>',
            text(912, y + 33, file.runtime, 14, text_anchor="start", font_family=MONO),
            text(1176, y + 33, f"{file.sqnr_db} dB", 16, theme.passed, text_anchor="end", font_weight="600"),
        ]
        scale = 296 / FULL_SCALE_DB
        tick = 880 + file.threshold_db * scale
        parts += [
            f'<rect x="880" y="{y + 48}" width="296" height="8" rx="4" fill="{theme.line}" opacity="0.45"/>',
            f'<rect x="880" y="{y + 48}" width="{file.sqnr_db * scale:.1f}" height="8" rx="4" fill="{theme.passed}"/>',
            f'<path d="M{tick:.1f} {y + 43}v18" stroke="{theme.text}" stroke-width="2"/>',
            text(round(tick, 1), y + 78, f"{file.threshold_db} dB required", 12, theme.muted),
        ]
    parts.append(text(1028, 392, "SQNR against PyTorch, worst of 27 images", 12, theme.muted))
    parts.append(text(374, 392, "exact rewrites, preprocessing inside", 12, theme.muted))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    for theme_name, colors in THEMES.items():
        (Path(__file__).parent / f"pipeline-{theme_name}.svg").write_text(draw(colors))
