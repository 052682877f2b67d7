"""One bar and one time for a whole run, or several."""

from E2ENetSegmentationLib.ui.progress import EXPLAINING, Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def event(stage, done, total, eta=None):
    return {"event": "progress", "stage": stage, "done": done, "total": total, "eta_s": eta}


def test_the_bar_only_goes_forward_and_says_what_it_knows():
    progress, seen = Progress(), []
    for one in (
        event("read", 1, 1),
        event("locate", 1, 2, 3.0),
        event("locate", 2, 2, 0.0),
        event("inference", 0, 4),
        event("inference", 2, 4, 5.0),
        event("inference", 4, 4, 0.0),
        event("locate", 0, 2),
        event("write", 1, 1),
    ):
        progress.feed(one)
        seen.append((progress.percent, progress.left))
    assert [percent for percent, _left in seen] == [8, 28, 45, 45, 70, 95, 95, 100]
    assert [left for _percent, left in seen] == [None, None, None, None, 5.0, None, None, None]


def test_several_runs_are_one():
    clock = Clock()
    progress = Progress(3, clock=clock)
    progress.feed(event("inference", 2, 4, 5.0))
    assert progress.percent == 23
    assert progress.left is None  # of the others nothing is known yet
    clock.now = 10.0
    progress.next()
    assert progress.percent == 33
    assert progress.left == 20.0
    progress.feed(event("inference", 2, 4, 4.0))
    assert progress.left == 14.0
    assert progress.text == "2/3  Segmenting, 14 s left"
    clock.now = 20.0
    progress.next()
    clock.now = 26.0
    progress.feed(event("locate", 1, 2))
    assert progress.left == 4.0
    progress.next()
    assert progress.percent == 100


def test_a_folder_is_one_run_of_several_cases():
    clock = Clock()
    progress = Progress(1, clock=clock)
    clock.now = 20.0  # looking for what is done already
    progress.feed(event("cases", 2, 4))
    assert progress.percent == 50
    progress.feed(event("inference", 4, 8, 5.0))
    assert progress.text == "3/4  Segmenting"  # nothing is known of the last one
    clock.now = 30.0
    progress.feed(event("cases", 3, 4))
    assert progress.percent == 75
    assert progress.left == 10.0
    progress.feed(event("cases", 4, 4))
    assert progress.percent == 100


def test_the_device_is_named_once_it_is_known():
    progress = Progress()
    progress.feed(event("read", 1, 1))
    assert progress.text == "Reading"
    progress.feed({"event": "metric", "name": "device", "device": "CPU"})
    progress.feed(event("inference", 1, 4, 12.0))
    assert progress.text == "Segmenting on CPU, 12 s left"


def test_an_explanation_first_segments():
    """Of its segmentation the engine knows what is left, of the rest it does not."""
    progress, seen = Progress(1, EXPLAINING), []
    for one in (
        event("inference", 1, 2, 5.0),
        event("inference", 2, 2, 0.0),
        event("importance", 0, 2),
        event("importance", 1, 2, 7.0),
        event("figures", 1, 1),
    ):
        progress.feed(one)
        seen.append((progress.percent, progress.left))
    assert seen == [(38, None), (45, None), (45, None), (68, 7.0), (100, None)]
