"""Timed calls with a real worker on the CPU: fresh inputs, answers to those very inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from harness.arena import POISON
from harness.oracle import draws
from harness.oracle.judge import Judge
from harness.oracle.nursery import Nursery, maker
from harness.oracle.problem import Problem
from harness.oracle.reference import Question
from harness.oracle.rounds import BadSample, Pace, Round, _samples, bytes_per_call
from harness.oracle.session import Session
from harness.oracle.trials import judge_gradients, judge_outputs
from harness.problems import find
from harness.records import Mode
from harness.settings import Settings
from harness.supervisor import ForkServer

CALLS = 3


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    server = ForkServer.start()
    problem = Problem.load(find("layer_norm"), gpu=False)
    nursery = Nursery(maker(server, Settings(), None, []))
    made = Judge(problem, nursery, Settings(), visible=None)
    yield made
    made.close()
    nursery.close()
    server.close()


@pytest.fixture(scope="module")
def session(judge: Judge) -> Iterator[Session]:
    with judge.session(lambda _: ({}, []), trusted=True) as opened:
        judge.load(opened, judge.problem.file.source, "Model")
        yield opened


@pytest.fixture
def question(judge: Judge, session: Session) -> Question:
    case = judge.problem.cases[0]
    session.construct(case, judge.problem)
    asked = judge.reference(case).ask(draws.DECLARED, 7, gradients=True)
    assert asked is not None
    return asked


@pytest.fixture
def laid(session: Session, question: Question) -> Iterator[Round]:
    made = Round(session, question, CALLS)
    yield made
    made.close()


def right(
    judge: Judge, question: Question, mode: Mode, answers: tuple[list[torch.Tensor], dict]
) -> bool:
    answered = judge.reference(question.case).answer(question, gradients=True)
    compared = []
    if mode is not Mode.BACKWARD:
        compared += judge_outputs(answered, answers[0])
    if mode is not Mode.FORWARD:
        compared += judge_gradients(answered, answers[1])
    return all(c.passed for c in compared)


@pytest.mark.parametrize("mode", list(Mode))
def test_each_call_of_a_turn_answers_its_own_inputs(
    judge: Judge, laid: Round, question: Question, mode: Mode
) -> None:
    reference = judge.reference(question.case)
    for seed in (1, 2):
        fresh = reference.again(question, seed, CALLS)
        samples = laid.turn(mode, fresh, Pace(CALLS, 0, 0))
        assert len(samples) == CALLS
        assert all(s.milliseconds > 0 and s.gated for s in samples)
        for at, asked in enumerate(fresh):
            assert right(judge, asked, mode, laid.answers(at))
            assert not right(judge, fresh[at - 1], mode, laid.answers(at))


@pytest.mark.parametrize("mode", list(Mode))
def test_a_spot_check_answers_the_inputs_that_were_hidden(
    judge: Judge, laid: Round, question: Question, mode: Mode
) -> None:
    (fresh,) = judge.reference(question.case).again(question, 3, 1)
    spot = laid.spot(mode, fresh, 1.0)
    assert right(judge, fresh, mode, (spot.outputs, spot.gradients))
    assert 0 < spot.sample.milliseconds <= spot.done_ms <= spot.held_ms


def test_answers_that_nobody_writes_are_wrong(
    judge: Judge, session: Session, laid: Round, question: Question
) -> None:
    fresh = judge.reference(question.case).again(question, 4, CALLS)
    laid.turn(Mode.FORWARD, fresh, Pace(CALLS, 0, 0))
    laid.turn(Mode.FORWARD, fresh[:1], Pace(1, 0, 0))
    assert right(judge, fresh[0], Mode.FORWARD, laid.answers(0))
    (stale,), _ = laid.answers(1)
    assert bool((stale.view(torch.uint8) == POISON).all())


def test_the_room_of_a_call_grows_with_its_tensors(judge: Judge, question: Question) -> None:
    larger = replace(question, args=[torch.cat([question.args[0]] * 200)])
    assert 0 < bytes_per_call(question) < bytes_per_call(larger)


@pytest.mark.parametrize(
    "samples",
    [
        None,
        [],
        [{}, {}],
        [{"milliseconds": 1.0, "host_milliseconds": 1.0}],
        [{"milliseconds": -1.0, "host_milliseconds": 1.0}] * 2,
        [{"milliseconds": float("nan"), "host_milliseconds": 1.0}] * 2,
        [{"milliseconds": float("inf"), "host_milliseconds": 1.0}] * 2,
        [{"milliseconds": "1", "host_milliseconds": 1.0}] * 2,
        [3.0, 3.0],
    ],
)
def test_what_is_no_time_is_no_sample(samples: object) -> None:
    with pytest.raises(BadSample):
        _samples({"samples": samples}, 2)
