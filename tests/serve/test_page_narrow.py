"""The page in a browser: on phones and tablets everything can be seen and reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import ServerProcess, Visit
from phantom_volume import write_head

PHONE, TABLET = {"width": 390, "height": 844}, {"width": 768, "height": 1024}
LONG = "head_of_a_study_with_a_rather_long_name_as_archives_give_them.nii.gz"
OUTSIDE = """(within) => [...document.querySelectorAll(within)]
  .filter((each) => each.getClientRects().length)
  .filter((each) => {
    const { left, right } = each.getBoundingClientRect();
    return left < 0 || right > innerWidth;
  })
  .map((each) => each.id || each.textContent)"""
# What is written on a plane, as "text" -> [left, right, top, bottom], by the functions that draw it.
WRITTEN = """async ([width, height]) => {
  const { drawLetters, drawScale } = await import("/core/marks.js");
  const context = document.createElement("canvas").getContext("2d");
  const found = {};
  context.fillText = (text, x, y) => {
    const half = context.measureText(text).width / 2;
    const middle = context.textAlign === "center" ? x : context.textAlign === "right" ? x - half : x + half;
    found[text] = [middle - half, middle + half, y - 7, y + 7];
  };
  const letters = { left: "R", right: "L", top: "S", bottom: "I" };
  drawScale(context, { width, height }, [1, 1], 1.3, letters);
  drawLetters(context, { width, height }, letters);
  return found;
}"""


@pytest.fixture(params=[PHONE, TABLET], ids=["phone", "tablet"])
def visit(request: pytest.FixtureRequest, browser: Any, server: ServerProcess) -> Iterator[Visit]:
    opened = Visit(browser, server.url, viewport=request.param, has_touch=True)
    yield opened
    opened.close()


def test_the_start_begins_at_its_top(visit: Visit) -> None:
    top = visit.page.evaluate("""() => {
      const start = document.querySelector("#start").getBoundingClientRect();
      return document.querySelector("#drop").getBoundingClientRect().top - start.top;
    }""")
    assert top >= 0
    # Whoever reads it may sit at another machine.
    words = visit.page.inner_text("#drop")
    assert "this machine" not in words and "the machine that runs lexiseg serve" in words


def test_every_card_is_reached_by_scrolling_down_and_every_button_of_the_bar_is_seen(
    visit: Visit, tmp_path: Path
) -> None:
    write_head(tmp_path / LONG, slices=4)
    visit.upload(tmp_path / LONG)
    page = visit.page
    assert page.evaluate("(() => { const { scrollWidth, clientWidth } = document.querySelector('#panel'); "
                         "return scrollWidth <= clientWidth; })()")  # fmt: skip
    assert page.evaluate(OUTSIDE, "#panel .card, #panel .card *") == []
    assert page.evaluate(OUTSIDE, ".bar button, .bar p") == []
    # The order of Tab is the order in which they are seen: by rows, from left to right.
    places = page.evaluate("""() => [...document.querySelectorAll(".bar button")]
      .filter((each) => each.getClientRects().length)
      .map((each) => [Math.round(each.getBoundingClientRect().top / 20), each.getBoundingClientRect().left])""")
    assert len(places) >= 8 and places == sorted(places)


@pytest.mark.parametrize("width", [120, 200, 260, 330, 400, 800])
def test_what_is_written_on_a_plane_does_not_overlap(visit: Visit, width: int) -> None:
    written = list(visit.page.evaluate(WRITTEN, [width, 240]).values())
    assert len(written) == 5
    for k, one in enumerate(written):
        for other in written[:k]:
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart, (one, other)
